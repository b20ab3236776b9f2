import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from coldray.cli.data import bar, data
from coldray.errors import UserError


def run(*arguments: object, fails: str | None = None):
    result = CliRunner().invoke(data, [str(argument) for argument in arguments])
    if fails is None:
        assert result.exit_code == 0, (result.output, result.exception)
    else:
        assert isinstance(result.exception, UserError), result.exception
        assert fails in str(result.exception)
        assert "\n" not in str(result.exception)
    return result


@pytest.fixture
def source(tmp_path):
    rows = [f"u{u}\ti{(u * 5 + p * p) % 11}\t{4 + p % 2}\t{u * 10 + p}" for u in range(40) for p in range(6)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (tmp_path / "ml.inter").write_text("\n".join([header, *rows, "u1\ti1\tgood\t5"]) + "\n")
    items = "\n".join(f"i{i}\tItem {i}" for i in range(11))
    (tmp_path / "ml.item").write_text(f"item_id:token\tmovie_title:token_seq\n{items}\n")
    return tmp_path


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_prepare_split_describe(source, tmp_path) -> None:
    out = tmp_path / "out"
    prepare = ["prepare", source, "--out", out, "--format", "recbole", "--rename", "movie_title=title"]
    made = run(*prepare, "--json")
    manifest = json.loads(made.stdout)
    assert manifest["counts"]["interactions"] == 240
    assert "ml.inter: row 242: rating: is not a number" in made.stderr
    assert "is up to date" in run(*prepare).stderr
    run(*prepare, "--k-core", "2", fails="--overwrite")
    run(*prepare[:3], tmp_path / "strict", *prepare[4:], "--strict", fails="row 242")
    assert pq.read_schema(out / "items.parquet").names == ["item_id", "title"]

    for protocol in ("temporal", "leave_one_out", "strict_cold"):
        figures = json.loads(run("split", out, "--protocol", protocol, "--json").stdout)
        assert figures["warm_items"] + figures["cold_items"] == figures["items"]
    named = run("split", out, "--protocol", "strict_cold", "--cold-fraction", 0.3, "--name", "third")
    assert "split third: 8 warm and 3 cold items" in named.stdout
    warning = run("split", out, "--protocol", "leave_one_out", "--name", "plain")
    assert "warning" in warning.stderr
    run("split", out, "--protocol", "temporal", "--cold-fraction", 0.3, fails="no part in temporal")
    run("split", out, "--name", "../up", fails="cannot be a folder")
    run("split", tmp_path / "none", fails="coldray data prepare")

    text = run("describe", out, "--split", "third").stdout
    assert "█" in text
    assert "cold share of items" in text
    picture = tmp_path / "picture.svg"
    figures = json.loads(run("describe", out, "--split", "third", "--json", "--figure", picture).stdout)
    assert figures["split"]["cold_items"] == 3
    assert "<svg" in picture.read_text()
    run("describe", out, "--figure", tmp_path / "picture.txt", fails="end the name in .png")


def test_options_that_cannot_be(tmp_path) -> None:
    run("prepare", tmp_path, "--out", "x", "--format", "table", "--k-core", "-1", fails="k_core")
    run("prepare", tmp_path, "--out", "x", "--format", "table", "--rename", "title", fails="OLD=NEW")


def test_bars() -> None:
    assert bar(0) == ""
    assert bar(1e-6) == "▏"
    assert bar(1) == "█" * 32
    assert len(bar(0.5)) == 16


def test_what_is_no_data_set(tmp_path) -> None:
    for command in ("describe", "split"):
        run(command, tmp_path, fails="is not a data set; run: coldray data prepare")
    (tmp_path / "manifest.json").write_text("{")
    run("describe", tmp_path, fails="manifest.json: is not JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
