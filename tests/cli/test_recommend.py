"""`coldray recommend` as it is typed."""

import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pyarrow import csv

from coldray import storage
from coldray.cli.recommend import recommend
from coldray.errors import UserError
from coldray.sweep.grid import make_cells, sweep_record
from coldray.sweep.run import sweep_folder
from coldray.sweep.work import Workspace


@pytest.fixture(scope="module", params=[True, False], ids=["shared backbones", "backbones of their own"])
def runs(tiny_settings, tmp_path_factory, request):
    folder = str(tmp_path_factory.mktemp("runs"))
    settings = tiny_settings(
        methods=("delta", "delta+knn+gate"), seeds=(42,), k=(3,), share_backbones=request.param
    )
    cells = make_cells(settings)
    home = sweep_folder(folder, settings.name)
    storage.write_json(f"{home}/settings.json", settings.model_dump(mode="json", exclude_unset=True))
    storage.write_json(f"{home}/sweep.json", sweep_record(settings, cells))
    for cell in cells:
        list(Workspace(settings.dataset, folder, share_backbones=request.param).run(cell))
    return folder


def call(*arguments):
    result = CliRunner().invoke(recommend, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_user_gets_a_list(runs, tiny_split):
    user = tiny_split.test.users[0].as_py()
    said = call("tiny", "--runs", runs, "--user", user, "--count", 4).stdout
    lines = said.strip().splitlines()
    assert len(lines) == 5
    assert lines[0].split() == ["user", "rank", "item", "score", "cold"]
    assert all(line.split()[0] == user for line in lines[1:])


@pytest.mark.parametrize("method", ["delta", "delta+knn+gate"])
def test_all_users_are_written_in_each_format(runs, tmp_path, method):
    tables = []
    for form in ("parquet", "csv", "jsonl"):
        out = tmp_path / f"{method}.{form}"
        call("tiny", "--runs", runs, "--method", method, "--count", 3, "--out", out)
        tables.append(out)
    whole = pq.read_table(tables[0])
    assert whole.num_rows == csv.read_csv(tables[1]).num_rows > 3
    rows = [json.loads(line) for line in tables[2].read_text().splitlines()]
    assert rows == whole.to_pylist()


def test_bad_questions_are_answered(runs, tmp_path):
    for arguments, told in (
        ((), "--user, --history or --out"),
        (("--user", "a", "--history", "b"), "give one of them"),
        (("--out", tmp_path / "a.txt"), r"end the name in \.parquet, \.csv or \.jsonl"),
        (("--user", "nobody"), "user nobody: is not in the data set"),
    ):
        with pytest.raises(UserError, match=told):
            call("tiny", "--runs", runs, *arguments)
    with pytest.raises(UserError, match="has no sweep other"):
        call("other", "--runs", runs, "--user", "a")
