import pytest

from coldray.errors import UserError

FLAGS = "|".join("1" if i in (3, 4, 5) else "0" for i in range(19))


def test_100k(tmp_path, read_source) -> None:
    (tmp_path / "u.data").write_text("196\t242\t5\t881250949\n186\t302\t3\t891717742\n22\t377\t4\n")
    items = (
        f"242|Toy Story (1995)|01-Jan-1995||http://x|{FLAGS}\n302|Misérables, Les (1995)|||http://x|{FLAGS}\n"
    )
    (tmp_path / "u.item").write_bytes(items.encode("latin-1"))
    got = read_source(tmp_path, "movielens")
    assert [(r["user_id"], r["item_id"], r["rating"], r["timestamp"]) for r in got.interactions] == [
        ("196", "242", 5.0, 881250949)
    ]
    assert (got.faults.count, got.faults.samples[0].row) == (1, 3)
    assert got.items == [
        {"item_id": "242", "title": "Toy Story", "year": "1995", "genres": "Animation, Children's, Comedy"},
        {
            "item_id": "302",
            "title": "Misérables, Les",
            "year": "1995",
            "genres": "Animation, Children's, Comedy",
        },
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])  # 1M and 10M
def test_dat(tmp_path, read_source, encoding) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::4.5::978302109\n")
    (tmp_path / "movies.dat").write_bytes("1193::Léon (1994)::Action|Sci-Fi\n".encode(encoding))
    got = read_source(tmp_path, "movielens")
    assert [r["rating"] for r in got.interactions] == [5.0, 4.5]
    assert got.items == [{"item_id": "1193", "title": "Léon", "year": "1994", "genres": "Action, Sci-Fi"}]


def test_csv(tmp_path, read_source) -> None:
    folder = tmp_path / "ml-25m"
    folder.mkdir()
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,306,0.5,1147868817\n"
    )
    (folder / "movies.csv").write_text('movieId,title,genres\n296,"Pulp, Fiction (1994)",Crime|Drama\n')
    got = read_source(tmp_path, "movielens")
    assert [r["item_id"] for r in got.interactions] == ["296"]
    assert got.items[0] | {"item_id": ""} == {
        "item_id": "", "title": "Pulp, Fiction", "year": "1994", "genres": "Crime, Drama",
    }  # fmt: skip


def test_another_folder(tmp_path, read_source) -> None:
    (tmp_path / "x.csv").write_text("a\n")
    with pytest.raises(UserError, match=r"u\.data, ratings\.dat, ratings\.csv"):
        read_source(tmp_path, "movielens")
