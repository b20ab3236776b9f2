import gzip
import json

REVIEW = {
    "overall": 5.0, "verified": True, "reviewTime": "10 17, 2015", "reviewerID": "A1HP7NVNPFMA4N",
    "asin": "0700026657", "style": {"Format:": "PC"}, "reviewText": "ok", "summary": "s", "unixReviewTime": 1445040000,
}  # fmt: skip


def test_reviews_and_metadata(tmp_path, read_source) -> None:
    lines = [json.dumps(REVIEW), "{broken", json.dumps(REVIEW | {"overall": "five"}), json.dumps([1])]
    lines.append(json.dumps({key: value for key, value in REVIEW.items() if key != "asin"}))
    (tmp_path / "Video_Games_5.json.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    meta = {
        "category": ["Video Games", "PC"],
        "description": ["One.", "Two."],
        "title": "Anno",
        "asin": "0700026657",
    }
    (tmp_path / "meta_Video_Games.json").write_text(json.dumps(meta | {"feature": [], "brand": ""}))
    got = read_source(tmp_path, "amazon2018")
    assert [(r["user_id"], r["item_id"], r["timestamp"]) for r in got.interactions] == [
        ("A1HP7NVNPFMA4N", "0700026657", 1445040000)
    ]
    assert got.faults.count == 4
    assert {(fault.row, fault.field) for fault in got.faults.samples} == {
        (2, "line"), (3, "rating"), (4, "line"), (5, "item_id"),
    }  # fmt: skip
    item = got.items[0]
    assert (item["category"], item["description"]) == ("Video Games; PC", "One.; Two.")
    assert item["feature"] is None
    assert item["brand"] is None
