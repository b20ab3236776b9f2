import gzip
import json

REVIEW = {
    "reviewerID": "A1YJEY40YUW4SE", "asin": "7806397051", "reviewerName": "Andrea", "helpful": [3, 4],
    "reviewText": "Very oily.", "overall": 5.0, "summary": "No", "unixReviewTime": 1391040000,
    "reviewTime": "01 30, 2014",
}  # fmt: skip


def write(folder, reviews, meta) -> None:
    (folder / "reviews_Beauty_5.json.gz").write_bytes(
        gzip.compress("".join(r + "\n" for r in reviews).encode())
    )
    (folder / "meta_Beauty.json.gz").write_bytes(gzip.compress("".join(m + "\n" for m in meta).encode()))


def test_reviews_are_json_and_metadata_python_literals(tmp_path, read_source) -> None:
    low = json.dumps(REVIEW | {"asin": "B2", "overall": 3.0})
    item = {
        "asin": "7806397051",
        "title": 'Maker\'s "Palette"',
        "price": 9.5,
        "categories": [["Beauty", "Makeup"]],
    }
    write(tmp_path, [json.dumps(REVIEW), low], [repr(item), repr({"asin": "B2"})])
    got = read_source(tmp_path, "amazon2014")
    assert [(r["user_id"], r["item_id"], r["timestamp"], r["rating"]) for r in got.interactions] == [
        ("A1YJEY40YUW4SE", "7806397051", 1391040000, 5.0)  # a rating of 3 is not above 3
    ]
    assert got.items[0]["title"] == 'Maker\'s "Palette"'
    assert got.items[0]["categories"] == "Beauty; Makeup"
    assert got.items[0]["price"] == "9.5"
    assert got.items[1] == {
        "item_id": "B2",
        **dict.fromkeys(["title", "brand", "categories", "description", "price"]),
    }
    assert got.faults.count == 0


def test_metadata_is_never_run(tmp_path, read_source) -> None:
    code = f"{{'asin': open({str(tmp_path / 'made')!r}, 'w').name}}"
    write(tmp_path, [json.dumps(REVIEW)], [code, repr({"asin": "B1"})])
    got = read_source(tmp_path, "amazon2014")
    assert not (tmp_path / "made").exists()
    assert got.faults.count == 1
    assert got.faults.samples[0].row == 1
    assert [item["item_id"] for item in got.items] == ["B1"]
