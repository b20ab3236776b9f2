import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray.errors import UserError

ROWS = [("u1", "i1", 5), ("u1", "i2", 7), ("u2", "i1", 6)]


def write(folder, kind) -> None:
    names = ["user_id", "item_id", "timestamp"]
    if kind == "parquet":
        columns = dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True))
        pq.write_table(pa.table(columns), folder / "t.parquet")
    elif kind == "jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in ROWS]
        (folder / "t.jsonl").write_text("\n".join(lines))
    else:
        separator = {"csv": ",", "tsv": "\t"}[kind]
        lines = [separator.join(map(str, row)) for row in [names, *ROWS]]
        (folder / f"t.{kind}").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv"])
def test_kinds_of_table_say_the_same(tmp_path, read_source, kind) -> None:
    write(tmp_path, kind)
    got = read_source(tmp_path, "table")
    assert [(r["user_id"], r["item_id"], r["timestamp"]) for r in got.interactions] == ROWS
    assert got.faults.count == 0


def test_columns_by_name(tmp_path, read_source) -> None:
    (tmp_path / "t.csv").write_text("who,what,when,nth\na,x,3,1\na,y,,0\n")
    names = {"user_column": "who", "item_column": "what", "position_column": "nth"}
    got = read_source(tmp_path, "table", **names)
    assert [(r["item_id"], r["position"], r["timestamp"]) for r in got.interactions] == [
        ("x", 1, None),
        ("y", 0, None),
    ]
    with pytest.raises(
        UserError, match=r"t\.csv: row 1: user_id: no such column \(it has who, what, when, nth\)"
    ):
        read_source(tmp_path, "table")
    with pytest.raises(UserError, match="rated: no such column"):
        read_source(tmp_path, "table", **names, rating_column="rated")


def test_times_of_parquet_are_milliseconds(tmp_path, read_source) -> None:
    when = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    table = {"user_id": [1], "item_id": [2], "timestamp": pa.array([when], pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert read_source(tmp_path, "table").interactions[0]["timestamp"] == int(when.timestamp() * 1000)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv: is empty"),
        ("t.csv", b"user_id,user_id\n1,2\n", "named twice"),
        ("t.parquet", b"nonsense, no table", "t.parquet: cannot be read as Parquet"),
        ("t.jsonl", b"[1]\n", "is no JSON object"),
        ("t.xlsx", b"x", "has no tables"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, read_source, name, content, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_source(tmp_path, "table")
    assert "\n" not in str(caught.value)


def test_ids_that_are_fractions(tmp_path, read_source) -> None:
    pq.write_table(pa.table({"user_id": [1.5], "item_id": [2]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="user_id: is of type double"):
        read_source(tmp_path, "table")


def test_ids_of_any_text(tmp_path, read_source) -> None:
    odd = ["a\nb", 'say "x", twice', "<script>alert(1)</script>", "日本語 🎬", "a\u2028b"]
    quoted = ['"' + text.replace('"', '""') + '"' for text in odd]
    lines = "\n".join(f"u{i},{text}" for i, text in enumerate(quoted))
    (tmp_path / "t.csv").write_text(f"user_id,item_id\n{lines}\n", encoding="utf-8")
    got = read_source(tmp_path, "table")
    assert [row["item_id"] for row in got.interactions] == odd
    assert got.faults.count == 0


def test_a_line_that_does_not_parse_is_named(tmp_path, read_source) -> None:
    (tmp_path / "t.jsonl").write_text('{"user_id": "u", "item_id": "i"}\n{"user_id": "u", "item\n')
    (fault,) = read_source(tmp_path, "table").faults.samples
    assert str(fault).startswith(f"{tmp_path}/t.jsonl: row 2: line: cannot be parsed")
    assert str(fault).endswith("correct or remove it")
