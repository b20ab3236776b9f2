from ray.tune.search import Searcher

from coldray.sweep.grid import make_cells
from coldray.sweep.search import CellSearch


def test_cells_wait_for_their_backbone_and_then_go_together(tiny_settings) -> None:
    search = CellSearch([cell for cell in make_cells(tiny_settings()) if cell.training], share_backbones=True)
    first, second = search.suggest("a")["cell"], search.suggest("b")["cell"]
    assert (first.method, second.method) == ("delta", "delta")
    assert search.suggest("c") is None
    search.on_trial_complete("a", {})
    ready = [search.suggest(name)["cell"] for name in "de"]
    assert {cell.seed for cell in ready} == {first.seed}
    assert search.suggest("f") is None
    search.on_trial_complete("b", {})
    rest = [search.suggest(name)["cell"] for name in "gh"]
    assert {cell.seed for cell in rest} == {second.seed}
    assert search.suggest("i") == Searcher.FINISHED


def test_a_training_that_failed_takes_its_cells_with_it(tiny_settings) -> None:
    cells = make_cells(tiny_settings(seeds=(42,), methods=("delta", "delta+knn+gate")))
    search = CellSearch(cells, share_backbones=True)
    search.suggest("a")
    search.on_trial_complete("a", error=True)
    assert search.suggest("b") == Searcher.FINISHED
    assert [search.state(cell) for cell in cells] == ["broken"] * 3


def test_an_evaluation_that_failed_does_not(tiny_settings) -> None:
    search = CellSearch(
        make_cells(tiny_settings(seeds=(42,), methods=("delta", "delta+knn+gate"))), share_backbones=True
    )
    search.suggest("a")
    search.on_trial_complete("a", {})
    search.suggest("b")
    search.on_trial_complete("b", error=True)
    assert search.suggest("c")["cell"].k == 5


def test_nothing_waits_where_backbones_are_not_shared(tiny_settings) -> None:
    search = CellSearch(make_cells(tiny_settings()), share_backbones=False)
    assert all("cell" in search.suggest(str(i)) for i in range(8))


def test_cells_wait_for_the_choice_of_a_transfer_that_another_one_makes(tiny_settings) -> None:
    search = CellSearch(make_cells(tiny_settings(methods=("delta", "delta+selected"))), share_backbones=True)
    for name in "ab":
        search.suggest(name)
        search.on_trial_complete(name, {})
    chooser = search.suggest("c")["cell"]
    assert chooser.method == "delta+selected"
    assert search.suggest("d") is None
    search.on_trial_complete("c", {})
    other = search.suggest("e")["cell"]
    assert other.method == "delta+selected"
    assert other.seed != chooser.seed
    assert other.selection_id == chooser.selection_id


def test_a_choice_that_failed_takes_the_cells_that_need_it_and_no_others(tiny_settings) -> None:
    methods = ("delta", "delta+selected", "delta+knn+gate")
    search = CellSearch(make_cells(tiny_settings(methods=methods, k=(3,))), share_backbones=True)
    for name in "ab":
        search.suggest(name)
        search.on_trial_complete(name, {})
    search.suggest("c")
    search.on_trial_complete("c", error=True)
    left = []
    while (suggested := search.suggest(str(len(left)))) != Searcher.FINISHED:
        left.append(suggested["cell"].method)
    assert left == ["delta+knn+gate"] * 2
