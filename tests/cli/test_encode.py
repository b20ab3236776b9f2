"""The command: what it prints, its names, its errors. What it writes is tested with coldray.encode."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from coldray import storage
from coldray.cli.encode import encode
from coldray.errors import UserError


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    folder = tmp_path / "data"
    storage.write_json(folder / "manifest.json", {"format": 1, "fingerprint": "f"})
    storage.write_table(folder / "items.parquet", pa.table({"item_id": ["a", "b"], "title": ["One", None]}))
    return str(folder)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_encode_prints_json_on_stdout_and_progress_on_stderr(dataset: str) -> None:
    result = CliRunner().invoke(encode, [dataset, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert made["folder"] == f"{dataset}/embeddings/minilm"
    assert (made["count"], made["dim"], made["encoded"], made["without_text"]) == (2, 384, 2, 1)
    assert not made["up_to_date"]
    assert "encoded 2 of 2 items" in result.stderr
    again = CliRunner().invoke(encode, [dataset], catch_exceptions=False)
    assert "2 items, 384 numbers each; up to date" in again.stdout
    assert "1 items have no text" in again.stderr


def test_given_vectors_are_named_after_their_file(dataset: str, tmp_path: Path) -> None:
    source = tmp_path / "my audio.parquet"
    storage.write_table(source, pa.table({"item_id": ["a", "b"], "v": [[1.0, 2.0], [3.0, 4.0]]}))
    arguments = [dataset, "--from-vectors", str(source), "--vector-column", "v", "--json"]
    made = json.loads(CliRunner().invoke(encode, arguments, catch_exceptions=False).stdout)
    assert (made["name"], made["dim"], made["encoded"]) == ("my-audio", 2, 2)
    again = json.loads(CliRunner().invoke(encode, arguments, catch_exceptions=False).stdout)
    assert (again["encoded"], again["up_to_date"]) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", " , "], "--columns: names no column"),
        (["--from-vectors", "v.npy"], "a .npy file, and only that, needs --ids"),
        (["--from-vectors", "v.parquet", "--model", "m"], "takes no --model"),
        (["--name", "../x"], "choose another name"),
    ],
)
def test_options_that_do_not_go_together(dataset: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(encode, [dataset, *arguments], catch_exceptions=False)


@pytest.mark.parametrize("more", [[], ["--from-vectors", "v.parquet"]])
def test_what_is_no_data_set_is_told_and_nothing_is_made(tmp_path: Path, more: list[str]) -> None:
    with pytest.raises(UserError, match="none: is not a data set; make it with: coldray data prepare"):
        CliRunner().invoke(encode, [str(tmp_path / "none"), *more], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
