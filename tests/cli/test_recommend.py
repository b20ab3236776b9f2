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


@pytest.fixture(scope="module")
def shop(catalogue, tmp_path_factory):
    """Return a folder with a graph whose vectors are those of the packaged sentence model."""
    from coldray.encode.sentence_model import TextEncoder
    from coldray.graph.store import writing

    folder = tmp_path_factory.mktemp("shop")
    graph = str(folder / "graph")
    items = {"a": ["ink", "red [b]pen[/b]"], "b": ["ink", "paper"], "c": ["paper"], "d": ["tea"]}
    with writing(graph) as writer:
        writer.apply(*catalogue.tables(items), [], TextEncoder(None), 0.95)
        writer.commit()
    llm = {"engine": "openai", "url": "http://127.0.0.1:9/v1", "model": "none", "retries": 0}
    storage.write_json(f"{graph}/build.json", {"llm": llm})
    return str(folder)


def test_a_graph_is_walked_from_ids_titles_and_texts(shop):
    said = call(shop, "--history", "a", "-k", 3)
    assert said.stdout.split()[:4] == ["rank", "item", "title", "score"]
    assert [line.split()[1] for line in said.stdout.strip().splitlines()[1:]] == ["b", "c", "d"]
    assert "not reached by the walk" in said.stderr
    assert call(shop, "--history", "T a", "-k", 3).stdout == said.stdout
    told = call(shop, "--history", "a hot drink of leaves", "-k", 1)
    assert "taken as tea" in told.stderr
    assert " d " in told.stdout


def test_the_evidence_is_a_tree_and_markup_in_it_is_text(shop):
    told = call(shop, "--history", "b", "-k", 2, "--explain")
    assert "1. T c (c," in told.stdout
    assert "from T b" in told.stdout
    assert "feature ink: b has ink" in told.stdout
    assert "hop 1: " in told.stderr
    text = "red [b]pen[/b]: red [b]pen[/b] by a"
    assert "from red [b]pen[/b]" in call(shop, "--history", text, "-k", 1, "--explain").stdout


def test_json_is_the_whole_answer(shop):
    from coldray.retrieval.result import Recommendation

    told = call(shop, "--history", "a", "--history", "nothing", "--json")
    found = Recommendation.model_validate_json(told.stdout)
    assert found.items[0].paths[0][0].source.item_id == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "u"], "--user: is for a sweep"),
        (["--settings", "none.yaml"], "none.yaml: cannot be read"),
        (["--version", "7"], "version 7"),
        (["--history", "a", "--scorer", "llm"], "llm address http://127.0.0.1:9/v1: no answer"),
    ],
)
def test_what_cannot_be_done_with_a_graph_is_said(shop, arguments, message):
    with pytest.raises(UserError, match=message):
        call(shop, *arguments)


def test_a_model_behind_an_address_ranks(shop, llm_address, tmp_path):
    import shutil

    copy = str(shutil.copytree(shop, tmp_path / "shop"))
    storage.write_json(f"{copy}/graph/build.json", {"llm": llm_address.settings()})
    told = call(copy, "--history", "a", "-k", 2, "--ranker", "llm", "--explain")
    assert llm_address.asked
    assert "questions to the model" in told.stderr
    assert "1. T " in told.stdout
