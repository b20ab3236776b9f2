import gzip
import json

import pytest

from coldray.data.readers import amazon
from coldray.errors import UserError


def test_divides_files_into_reviews_and_metadata() -> None:
    names = ["Video_Games.json.gz", "meta_Video_Games.json.gz", "readme.txt", "more/meta_Toys.jsonl"]
    files = amazon.find(names)
    assert files.interactions == [("Video_Games.json.gz",)]
    assert files.items == [("meta_Video_Games.json.gz",), ("more/meta_Toys.jsonl",)]


def test_a_folder_without_reviews_is_refused() -> None:
    with pytest.raises(UserError, match="no review files"):
        amazon.find(["meta_Toys.json.gz"])


def test_a_broken_gzip_names_the_file(tmp_path, read_source) -> None:
    line = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1}
    whole = gzip.compress(("\n".join(json.dumps(line | {"asin": f"B{i}"}) for i in range(9000))).encode())
    (tmp_path / "Toys.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"Toys\.json\.gz: cannot be read to its end .*fetch it again"):
        read_source(tmp_path, "amazon2018")
