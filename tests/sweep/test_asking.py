import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.errors import ServiceError
from coldray.llm.settings import make_engine
from coldray.sweep.grid import make_cells
from coldray.sweep.methods import ASKING
from coldray.sweep.work import Workspace


def run(settings, runs):
    workspace = Workspace(settings.dataset, str(runs), engine=lambda: make_engine(settings.zeroshot.llm))
    cells = make_cells(settings)
    reports = {cell.cell_id: list(workspace.run(cell)) for cell in cells}
    folders = {cell.cell_id: workspace.result_folder(cell) for cell in cells}
    return cells, reports, folders


def test_every_method_that_asks_leaves_lists_ranks_and_costs(asking_settings, tmp_path):
    cells, reports, folders = run(asking_settings(methods=("popularity", *ASKING), seeds=(1,)), tmp_path)
    for cell in cells:
        if cell.question is None:
            continue
        made = pq.read_table(f"{folders[cell.cell_id]}/recommended.parquet").to_pylist()
        ranks = pq.read_table(f"{folders[cell.cell_id]}/ranks.parquet").to_pylist()
        metrics = storage.read_json(f"{folders[cell.cell_id]}/done.json")["metrics"]
        assert len(made) == 15
        for one, rank in zip(made, ranks, strict=True):
            items, target = one["items"], rank["target"]
            assert rank["cold"]
            assert rank["rank_all_kept"] == (items.index(target) + 1 if target in items else 0)
            assert len(one["titles"]) == len(items) <= 10
        assert reports[cell.cell_id][-1][1] == {"users": 15.0}
        assert metrics["calls_per_user"] >= 1
        listed = cell.method not in ("taxrec", "coldrag-constrained")
        assert ("hallucination_rate" in metrics) == listed
        if listed:
            assert 0 < metrics["hallucination_rate"] < 1
        assert storage.exists(f"{folders[cell.cell_id]}/graph.json") == cell.method.startswith("coldrag")


def test_the_graph_leads_to_cold_items_and_chance_does_not_so_often(asking_settings, tmp_path):
    cells, _, folders = run(asking_settings(seeds=(1,)), tmp_path)
    scores = {
        c.method: storage.read_json(f"{folders[c.cell_id]}/done.json")["metrics"]["cold_recall_at_10"]
        for c in cells
    }
    assert scores["coldrag"] > 0.3
    assert scores["popularity"] == 0


def test_runs_share_what_does_not_depend_on_the_seed(asking_settings, llm_address, tmp_path):
    settings = asking_settings(methods=("popularity", "taxrec"))
    run(settings, tmp_path)
    taxonomies = [b for b in llm_address.asked if "<titles>" in b["messages"][1]["content"]]
    assert len(taxonomies) == 1
    seeds = [body["seed"] for body in llm_address.asked if body["seed"]]
    assert (
        len(set(seeds)) == len(seeds) == 2 * 15
    )  # what is drawn, of each user in each run; the rest, once for both, draws nothing


def test_a_killed_cell_asks_only_for_what_is_missing(asking_settings, llm_address, tmp_path):
    settings = asking_settings(methods=("popularity", "llm"), seeds=(1,))
    cell = make_cells(settings)[-1]
    llm_address.fault = lambda number, body: (500, "{}") if number >= 8 else None
    workspace = Workspace(settings.dataset, str(tmp_path), engine=lambda: make_engine(settings.zeroshot.llm))
    with pytest.raises(ServiceError, match="no answer"):
        list(workspace.run(cell))
    llm_address.fault = lambda number, body: None
    before = len(llm_address.asked)
    list(
        Workspace(settings.dataset, str(tmp_path), engine=lambda: make_engine(settings.zeroshot.llm)).run(
            cell
        )
    )
    assert len(llm_address.asked) - before < 15


def test_the_graph_grows_and_recall_with_it(asking_settings, tmp_path):
    settings = asking_settings(methods=("popularity", "coldrag"), seeds=(1,), zeroshot={"growth": 2})
    cells, _, folders = run(settings, tmp_path)
    grown = [cell for cell in cells if cell.varied]
    assert [cell.varied for cell in grown] == [f"cold items in the graph={i}/2" for i in range(3)]
    recall = [
        storage.read_json(f"{folders[c.cell_id]}/done.json")["metrics"]["cold_recall_at_10"] for c in grown
    ]
    assert recall[0] == 0
    assert recall[0] <= recall[1] <= recall[2]
    items = [storage.read_json(f"{folders[c.cell_id]}/graph.json")["items"] for c in grown]
    assert items == [40, 44, 48]


def test_users_do_not_share_the_luck_of_what_is_drawn(asking_settings, llm_address, tmp_path):
    run(asking_settings(methods=("popularity", "llm")), tmp_path)
    seeds = [body["seed"] for body in llm_address.asked]
    assert len(set(seeds)) == len(seeds) == 2 * 15
