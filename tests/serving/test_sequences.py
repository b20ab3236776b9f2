"""Recommendations of a trained model behind the API, and that they are those of `coldray recommend`."""

import asyncio
import json

import pytest

from coldray import storage
from coldray.errors import UserError
from coldray.serving.problems import ProblemError
from coldray.serving.sequences import SequenceRecommender, find_cell
from coldray.serving.settings import SASRec
from coldray.sweep.grid import make_cells
from coldray.sweep.recommend import recommend
from coldray.sweep.run import sweep_folder, sweep_record
from coldray.sweep.tracking import Tracker
from coldray.sweep.work import Workspace


@pytest.fixture(scope="module")
def sweep(tiny_settings, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("runs"))
    settings = tiny_settings(methods=("delta", "delta+knn+gate"), seeds=(42,), k=(3,))
    cells = make_cells(settings)
    home = sweep_folder(folder, settings.name)
    record = sweep_record(settings, cells)
    storage.write_json(f"{home}/settings.json", settings.model_dump(mode="json", exclude_unset=True))
    storage.write_json(f"{home}/sweep.json", record)
    for cell in cells:
        list(Workspace(settings.dataset, folder).run(cell))
    return folder, settings, cells, record


@pytest.fixture
def served(sweep):
    return SequenceRecommender(SASRec(runs=sweep[0], sweep="tiny", run=sweep[2][1].cell_id))


def run(work):
    found = asyncio.run(work)
    return json.loads(found) if isinstance(found, bytes) else found


def test_it_recommends_what_the_command_does(sweep, served):
    folder, settings, cells, _ = sweep
    found = run(served.recommend(["i01", "i02"], 5, {}))
    wanted = recommend(Workspace(settings.dataset, folder), cells[1], history=["i01", "i02"], n=5)
    assert [item["item_id"] for item in found["items"]] == wanted["item_id"].to_pylist()
    assert [item["score"] for item in found["items"]] == pytest.approx(wanted["score"].to_pylist())
    assert [anchor["given"] for anchor in found["anchors"]] == ["i01", "i02"]


def test_what_is_not_known_is_named_and_the_rest_used(served):
    found = run(served.recommend(["nobody", "I01"], 3, {}))
    assert found["unknown"] == ["nobody"]
    assert found["anchors"][0]["node"]["item_id"] == "i01"
    empty = run(served.recommend([], 3, {}))
    assert len(empty["items"]) == 3
    assert "nobody in particular" in empty["fallback"]


def test_it_streams_finds_and_shows_and_has_no_graph(served):
    async def parts():
        return [name async for name, _ in served.stream(["i01"], 2, {})]

    assert run(parts()) == ["recommendation"]
    assert run(served.find("I0", 2)) == [
        {"item_id": "i01", "title": "i01"},
        {"item_id": "i02", "title": "i02"},
    ]
    assert run(served.item("i01"))["title"] == "i01"
    assert run(served.status())["engine"] == "sasrec"
    for asked, status in (
        (served.item("x"), 404),
        (served.around("i01"), 404),
        (served.put([]), 409),
        (served.delete("i01"), 409),
    ):
        with pytest.raises(ProblemError) as raised:
            run(asked)
        assert raised.value.problem.status == status


def test_a_cell_is_named_by_its_id_or_its_run(sweep, mlflow_uri):
    folder, _, cells, record = sweep
    assert find_cell(SASRec(runs=folder, sweep="tiny"))[1].method == "delta"
    assert find_cell(SASRec(runs=folder, sweep="tiny", run=cells[1].cell_id))[1] == cells[1]
    tracker = Tracker(mlflow_uri, "served")
    parent = tracker.start_sweep(record)
    entry = next(cell for cell in record["cells"] if cell["cell_id"] == cells[1].cell_id)
    run_id = tracker.start_cell(parent, entry, {})
    named = SASRec(runs=folder, sweep="tiny", run=run_id, tracking_uri=mlflow_uri)
    assert find_cell(named)[1] == cells[1]
    for wrong, message in (
        (parent, "is no run of a sweep's cell"),
        ("0" * 32, "is not at"),
        ("f" * 16, "is no run of the sweep"),
    ):
        with pytest.raises(UserError, match=message):
            find_cell(SASRec(runs=folder, sweep="tiny", run=wrong, tracking_uri=mlflow_uri))
    with pytest.raises(UserError, match="no MLflow database"):
        find_cell(SASRec(runs=folder, sweep="tiny", run=run_id))
