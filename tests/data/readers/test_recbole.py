import pytest

from coldray.errors import UserError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = 'item_id:token\tmovie_title:token_seq\tscore:float\n242\t"Kolya\t4.5\n'


def test_types_come_off_the_names_and_quotes_are_text(tmp_path, read_source) -> None:
    (tmp_path / "ml.inter").write_text(INTER + "196\t242\t4\t8.8e8\n186\t302\t3\t891717742\n")
    (tmp_path / "ml.item").write_text(ITEM)
    got = read_source(tmp_path, "recbole")
    assert [(r["user_id"], r["item_id"], r["timestamp"]) for r in got.interactions] == [
        ("196", "242", 880000000)
    ]
    assert got.items == [{"item_id": "242", "movie_title": '"Kolya', "score": "4.5"}]


def test_a_header_without_types(tmp_path, read_source) -> None:
    (tmp_path / "ml.inter").write_text("user_id\titem_id\n1\t2\n")
    with pytest.raises(UserError, match=r"ml\.inter: row 1: user_id: has no type"):
        read_source(tmp_path, "recbole")
