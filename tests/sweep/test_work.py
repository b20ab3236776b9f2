import csv
import gzip
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.sweep.grid import make_cells
from coldray.sweep.work import Workspace
from coldray.training import Backbone

RESULTS = ("cold-start-evaluation.csv.gz", "ranks.parquet")


def run_all(settings, runs):
    workspace = Workspace(settings.dataset, str(runs), share_backbones=settings.share_backbones)
    cells = make_cells(settings)
    epochs = {cell.cell_id: len(list(workspace.run(cell))) for cell in cells}
    return workspace, cells, epochs


def results(workspace, cells):
    return {
        (cell.cell_id, name): storage.read_bytes(storage.join(workspace.result_folder(cell), name))
        for cell in cells
        for name in RESULTS
    }


def read_rows(path):
    with gzip.open(path, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_backbone_is_trained_once_and_its_own_trainings_give_the_same_numbers(
    tiny_settings, tmp_path
) -> None:
    shared, cells, epochs = run_all(tiny_settings(), tmp_path / "shared")
    assert sum(epochs.values()) == 2 * 4
    assert len(os.listdir(tmp_path / "shared" / "backbones")) == 2
    alone, _, many = run_all(tiny_settings(share_backbones=False), tmp_path / "alone")
    assert sum(many.values()) == 6 * 4
    assert results(shared, cells) == results(alone, cells)


def test_every_method_writes_what_the_report_reads(tiny_settings, tmp_path) -> None:
    methods = (
        "sasrec",
        "content-init",
        "delta",
        "delta+knn",
        "delta+knn+gate",
        "history-average",
        "popularity",
        "item-knn",
    )
    workspace, cells, _ = run_all(tiny_settings(methods=methods, seeds=(1,), k=(3,)), tmp_path)
    by_method = {}
    for cell in cells:
        folder = workspace.result_folder(cell)
        rows = read_rows(f"{folder}/cold-start-evaluation.csv.gz")
        assert [(r["recommend-cold-items"], r["filter-cold-items"]) for r in rows] == [
            ("True", "False"),
            ("True", "True"),
            ("False", "False"),
            ("False", "True"),
        ]
        assert float(rows[2]["cold_NDCG@10"]) == 0
        by_method[cell.method] = float(rows[0]["cold_NDCG@10"])
        ranks = pq.read_table(f"{folder}/ranks.parquet").to_pydict()
        hits = [
            1 / np.log2(r + 1) if 0 < r <= 10 else 0
            for r, c in zip(ranks["rank_all_kept"], ranks["cold"], strict=True)
            if c
        ]
        assert by_method[cell.method] == pytest.approx(np.mean(hits))
    assert by_method["popularity"] == by_method["item-knn"] == 0
    assert by_method["delta+knn"] > by_method["sasrec"]


def test_a_cell_that_is_done_is_not_run_again(tiny_settings, tmp_path) -> None:
    run_all(tiny_settings(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    _, _, epochs = run_all(tiny_settings(), tmp_path)
    assert not any(epochs.values())
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_half_a_result_is_made_again(tiny_settings, tmp_path) -> None:
    workspace, cells, _ = run_all(tiny_settings(), tmp_path)
    kept = results(workspace, cells)
    folder = workspace.result_folder(cells[0])
    os.remove(f"{folder}/done.json")
    (tmp_path / "x").write_bytes(b"half")
    os.replace(tmp_path / "x", f"{folder}/ranks.parquet")
    os.remove(f"{tmp_path}/backbones/{cells[0].backbone_id}/backbone.json")
    again, _, epochs = run_all(tiny_settings(), tmp_path)
    assert sum(epochs.values()) == 4
    assert results(again, cells) == kept


def test_transfer_gives_cold_items_residuals_and_leaves_warm_ones(
    tiny_settings, tiny_split, tmp_path
) -> None:
    workspace, cells, _ = run_all(tiny_settings(seeds=(42,), k=(3,)), tmp_path)
    cell = next(cell for cell in cells if cell.k)
    scorer, transfer = workspace._scorer(cell)
    backbone = Backbone.load(f"{tmp_path}/backbones/{cell.backbone_id}")
    plain = backbone.embedding.table().detach()
    first = tiny_split.num_warm + 1
    assert np.array_equal(scorer.item_vectors[:first], plain[:first])
    assert (scorer.item_vectors[first:] - plain[first:]).norm(dim=1).min() > 0
    gates = pq.read_table(f"{workspace.result_folder(cell)}/transfer.parquet")
    assert gates["item_id"].to_pylist() == tiny_split.item_ids.to_pylist()[first - 1 :]
    assert np.array_equal(gates["gate"].to_numpy(), transfer.gate.astype(np.float32))
    metrics = json.loads(storage.read_bytes(storage.join(workspace.result_folder(cell), "done.json")))[
        "metrics"
    ]
    assert metrics["mean_gate"] == pytest.approx(float(transfer.gate.mean()))
