import pytest

from coldray import storage
from coldray.errors import UserError
from coldray.sweep.content import chosen
from coldray.sweep.grid import make_cells
from coldray.sweep.work import Workspace
from coldray.training import content as trained


@pytest.fixture
def quick(monkeypatch):
    """Let the models be small: here it is about what is kept, and in which order."""
    for name in ("clcrec", "tdro"):
        model, settings, search = trained.KINDS[name]
        small = type(
            "Small",
            (settings,),
            {"__annotations__": {"max_epochs": int, "dim": int}, "max_epochs": 2, "dim": 8},
        )
        monkeypatch.setitem(trained.KINDS, name, (model, small, search[:2]))


def test_settings_are_searched_once_on_items_taken_out_of_training(quick, tiny_settings, tmp_path):
    settings = tiny_settings(methods=("popularity", "clcrec"), baseline="popularity", search=True)
    workspace = Workspace(settings.dataset, str(tmp_path))
    cells = [cell for cell in make_cells(settings) if cell.content is not None]
    reports = [[report for _, report in workspace.run(cell)] for cell in cells]
    assert [sum("probe" in report for report in run) for run in reports] == [4, 0]
    searches = {cell.search_id for cell in cells}
    assert len(searches) == 1
    record = storage.read_json(f"{tmp_path}/searches/{searches.pop()}/search.json")
    assert len(record["tried"]) == 2
    best = max(record["tried"], key=lambda entry: entry["pseudo_cold_ndcg_at_10"])
    assert all(record["chosen"][name] == value for name, value in best["changes"].items())
    for cell in cells:
        assert storage.exists(f"{workspace.result_folder(cell)}/search.json")


def test_what_was_trained_scores_again(quick, tiny_settings, tmp_path):
    settings = tiny_settings(methods=("popularity", "tdro"), baseline="popularity", search=False, seeds=(1,))
    workspace = Workspace(settings.dataset, str(tmp_path))
    cell = make_cells(settings)[-1]
    list(workspace.run(cell))
    scorer, split = workspace.scorer(cell)
    assert scorer.num_items == split.num_items


def test_a_search_that_is_none_is_refused(tiny_settings, tmp_path):
    cell = make_cells(tiny_settings(methods=("popularity", "clcrec"), baseline="popularity"))[-1]
    storage.write_json(str(tmp_path / "search.json"), {"chosen": {"dim": "x"}})
    with pytest.raises(UserError, match="delete it and run again"):
        chosen(cell, str(tmp_path))
    storage.write_json(str(tmp_path / "search.json"), {})
    with pytest.raises(UserError, match="is no search"):
        chosen(cell, str(tmp_path))
