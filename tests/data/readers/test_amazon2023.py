import json

REVIEW = {
    "rating": 4.0, "title": "t", "text": "x", "images": [], "asin": "B07DJWBYKP", "parent_asin": "B07DK1H3H5",
    "user_id": "AGCI7FAH4GL5FI65HYLKWTMFZ2CQ", "timestamp": 1608186804795, "helpful_vote": 0,
    "verified_purchase": True,
}  # fmt: skip


def test_the_item_is_the_parent_and_times_stay_in_milliseconds(tmp_path, read_source) -> None:
    (tmp_path / "Video_Games.jsonl").write_text(json.dumps(REVIEW) + "\n")
    meta = {
        "main_category": "Computers",
        "title": "Mouse",
        "store": "Logi",
        "details": {"Color": "Black", "W": 1},
    }
    meta |= {
        "features": ["a", "b"],
        "description": [],
        "price": None,
        "categories": ["X"],
        "parent_asin": "B07DK1H3H5",
    }
    (tmp_path / "meta_Video_Games.jsonl").write_text(json.dumps(meta) + "\n")
    got = read_source(tmp_path, "amazon2023")
    row = got.interactions[0]
    assert (row["item_id"], row["timestamp"], row["rating"]) == ("B07DK1H3H5", 1608186804795, 4.0)
    item = got.items[0]
    assert (item["item_id"], item["features"], item["details"]) == (
        "B07DK1H3H5",
        "a; b",
        "Color: Black; W: 1",
    )
    assert item["description"] is None
