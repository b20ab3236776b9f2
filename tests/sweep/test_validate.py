"""A sweep is read back from a real server; each run that was tampered with is left out for the right reason."""

import csv
import gzip
import io

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from coldray.errors import UserError
from coldray.sweep import artifacts as a
from coldray.sweep.tracking import Tracker
from coldray.sweep.validate import read_sweep, validate

pytestmark = pytest.mark.mlflow


@pytest.fixture(scope="module")
def whole(mlflow_uri, make_sweep, tmp_path_factory):
    sweep = make_sweep("whole")
    parent, runs = sweep.log(mlflow_uri, "whole", tmp_path_factory.mktemp("whole"))
    return sweep, parent, runs


def check(uri, name):
    with read_sweep(uri, name) as record:
        return validate(record)


def test_a_sweep_that_is_right_is_whole(mlflow_uri, whole):
    sweep, parent, runs = whole
    with read_sweep(mlflow_uri, "whole") as record:
        results, left_out = validate(record)
    assert record.run_id == parent
    assert left_out == []
    assert [result.cell.cell_id for result in results] == [cell["cell_id"] for cell in sweep.sweep["cells"]]
    assert {result.cell.cell_id: result.run_id for result in results} == runs
    assert len({id(result.test) for result in results}) == 1
    assert [result.cold_items is not None for result in results] == [
        bool(c["transfer"]) for c in sweep.sweep["cells"]
    ]


def test_a_sweep_is_found_by_name_id_and_run(mlflow_uri, whole):
    sweep, parent, _ = whole
    for wanted in ("whole", sweep.sweep["sweep_id"], parent):
        with read_sweep(mlflow_uri, wanted) as record:
            assert record.run_id == parent
    with (
        pytest.raises(UserError, match=r"has no sweep nothing'; it has: .*whole"),
        read_sweep(mlflow_uri, "nothing'"),
    ):
        pass


def damage_csv(folder):
    path = folder / a.EVALUATION
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    rows[2]["warm_NDCG@10"] = str(float(rows[2]["warm_NDCG@10"]) + 1e-6)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def damage_users(folder):
    path = folder / a.RANKS
    table = pq.read_table(path)
    counts = [count + 1 for count in table["train_count"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("train_count"), "train_count", [counts]), path)


def other_dataset(**changes):
    return {"dataset": DATASET | changes}


DATASET = {
    "path": "data/made-up",
    "split": "temporal",
    "fingerprint": "ab" * 8,
    "embedding": "minilm",
    "embedding_fingerprint": "cd" * 8,
}
GATED = "delta+knn+gate"
FAST = {"loss": "sampled_softmax", "learning_rate": 0.01}
WIDE = {"temperature": 0.07, "gate": {"tau": 0.5, "beta": 20.0}}
# Method, seed, what is changed in task.json, what is done to the files, other metrics, the reason.
TAMPERED = [
    (
        "delta",
        1,
        other_dataset(fingerprint="ff" * 8),
        None,
        {},
        'task.json: dataset.fingerprint is "ffffffffffffffff"',
    ),
    (
        "delta",
        2,
        other_dataset(path="data/other"),
        None,
        {},
        'task.json: dataset.path is "data/other", expected "data/m',
    ),
    ("delta", 3, {"seed": 99}, None, {}, "its seed 99 is not one of the sweep's, 1, 2, 3, 4, 5"),
    ("delta", 4, {"seed": 5}, None, {}, "task.json: seed is 5, expected 4"),
    ("delta", 5, {"run_id": "ee" * 16}, None, {}, f'task.json: run_id is "{"ee" * 16}", expected'),
    (GATED, 1, {"k": 25}, None, {}, "task.json: k is 25, expected 10"),
    (GATED, 2, {"transfer": WIDE}, None, {}, "task.json: transfer.gate.tau is 0.5, expected 0.25"),
    (GATED, 3, {"training": FAST}, None, {}, "task.json: training.learning_rate is 0.01, expected 0.001"),
    (GATED, 4, {}, lambda folder: (folder / a.TRANSFER).unlink(), {}, "transfer.parquet is missing"),
    (GATED, 5, {}, lambda folder: (folder / a.RANKS).unlink(), {}, "ranks.parquet is missing"),
    (
        "history-average",
        1,
        {},
        damage_csv,
        {},
        f"{a.EVALUATION}: warm_NDCG@10 (warm items only; cold items in hist",
    ),
    ("history-average", 2, {}, damage_users, {}, "ranks.parquet: its users or targets are not those"),
    (
        "history-average",
        3,
        {},
        None,
        {"cold_ndcg_at_10": 0.9},
        "the metric cold_ndcg_at_10 is 0.9, but cold-start-eval",
    ),
]


def test_each_run_that_was_tampered_with_is_left_out(mlflow_uri, make_sweep, tmp_path):
    sweep = make_sweep("tampered", seeds=(1, 2, 3, 4, 5, 6), ks=(10,))
    tracker = Tracker(mlflow_uri, "tampered")
    parent = tracker.start_sweep(sweep.sweep)
    tampered = {(method, seed): rest for method, seed, *rest in TAMPERED}
    expected = {}
    for cell in sweep.sweep["cells"]:
        task, damage, metrics, reason = tampered.get((cell["method"], cell["seed"]), ({}, None, {}, None))
        run_id = tracker.start_cell(parent, cell, {})
        folder = tmp_path / run_id
        folder.mkdir()
        final = sweep.write(cell, run_id, folder, task) | metrics
        if damage:
            damage(folder)
        tracker.finish_cell(run_id, final, folder)
        if reason:
            expected[run_id] = reason

    results, left_out = check(mlflow_uri, "tampered")
    assert len(results) == len(sweep.sweep["cells"]) - len(TAMPERED)
    found = {item.run_id: item.reason for item in left_out}
    assert set(found) == set(expected)
    for run_id, reason in expected.items():
        assert found[run_id].startswith(reason), (found[run_id], reason)


def test_unfinished_double_stray_and_missing_runs_are_left_out(mlflow_uri, make_sweep, tmp_path):
    sweep = make_sweep("unfinished", seeds=(1, 2, 3), ks=(10,))
    tracker, client = Tracker(mlflow_uri, "unfinished"), MlflowClient(mlflow_uri)
    parent = tracker.start_sweep(sweep.sweep)
    running, failed, double, _missing, *rest = sweep.sweep["cells"]
    expected = {tracker.start_cell(parent, running, {}): "its status is RUNNING, not FINISHED"}
    lost = tracker.start_cell(parent, failed, {})
    tracker.fail_run(lost, "the node went away")
    first = sweep.log_cell(tracker, parent, double, tmp_path)
    copied = client.get_run(first).data
    second = client.create_run(tracker.experiment_id, tags=copied.tags).info.run_id
    for name, value in copied.params.items():
        client.log_param(second, name, value)
    (tmp_path / "second").mkdir()
    tracker.finish_cell(second, sweep.write(double, second, tmp_path / "second"), tmp_path / "second")
    stray = client.create_run(
        tracker.experiment_id, tags={a.PARENT_TAG: parent, a.CELL_TAG: "0000"}
    ).info.run_id
    tracker.finish_sweep(stray)
    for cell in rest:
        sweep.log_cell(tracker, parent, cell, tmp_path)
    expected |= {lost: "its status is FAILED, not FINISHED", "": "has no run"}
    expected |= dict.fromkeys((first, second), "is one of 2 results of its cell; delete the others")
    expected[stray] = "it belongs to no cell of the sweep"

    results, left_out = check(mlflow_uri, "unfinished")
    assert [result.cell.cell_id for result in results] == [cell["cell_id"] for cell in rest]
    assert {item.run_id: item.reason for item in left_out} == expected
    client.delete_run(second)
    assert first in {result.run_id for result in check(mlflow_uri, "unfinished")[0]}


def test_cold_metrics_may_be_missing_only_without_cold_users(mlflow_uri, make_sweep, tmp_path):
    sweep = make_sweep("no cold", seeds=(1,), ks=(10,), cold_share=0.0)
    sweep.log(mlflow_uri, "no cold", tmp_path)
    results, left_out = check(mlflow_uri, "no cold")
    assert left_out == []
    assert results[0].values[a.HEADLINE]["cold_users"] == 0
