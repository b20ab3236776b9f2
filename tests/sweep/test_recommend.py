"""Recommendations are what the evaluation ranks first, for users known and unknown."""

import numpy as np
import pyarrow as pa
import pytest

from coldray.errors import UserError
from coldray.evaluation import evaluate
from coldray.sweep.grid import make_cells
from coldray.sweep.recommend import known_histories, pick_cell, recommend
from coldray.sweep.work import Workspace


@pytest.fixture(scope="module")
def ran(tiny_settings, tmp_path_factory):
    settings = tiny_settings(
        methods=("delta", "delta+knn+gate", "delta+selected"),
        selection={"trials": 4, "pseudo_cold": 0.2, "probes": 1, "max_delta_norms": ()},
    )
    workspace = Workspace(settings.dataset, str(tmp_path_factory.mktemp("runs")))
    for cell in make_cells(settings):
        if cell.seed == 42:
            list(workspace.run(cell))
    return settings, workspace


def test_every_known_user_has_all_that_is_known(tiny_split) -> None:
    known = known_histories(tiny_split)
    assert len(set(known.users.to_pylist())) == len(known)
    assert set(known.users.to_pylist()) >= set(tiny_split.test.users.to_pylist())
    place = {user: i for i, user in enumerate(known.users.to_pylist())}
    test = tiny_split.test
    for i, user in enumerate(test.users.to_pylist()[:20]):
        row = place[user]
        found = known.items[known.offsets[row] : known.offsets[row + 1]].tolist()
        assert found == [*test.items[test.offsets[i] : test.offsets[i + 1]].tolist(), test.targets[i]]


@pytest.mark.parametrize("method", ["delta", "delta+knn+gate", "delta+selected"])
def test_the_first_recommendation_is_what_ranks_first(ran, method) -> None:
    settings, workspace = ran
    cell = pick_cell(settings, method)
    table = recommend(workspace, cell, n=5)
    scorer, split = workspace.scorer(cell)
    known = known_histories(split)
    assert table["user_id"].unique().to_pylist() == known.users.to_pylist()
    index = {item: i + 1 for i, item in enumerate(split.item_ids.to_pylist())}
    items = np.array([index[item] for item in table["item_id"].to_pylist()])
    assert table["cold"].to_pylist() == (items > split.num_warm).tolist()
    for rank in (1, 2, 5):
        chosen = table["rank"].to_numpy() == rank
        wanted = type(known)(known.users, known.offsets, known.items, items[chosen].astype(np.int32))
        ranks = evaluate(scorer, wanted, split.num_warm, headline_only=True).rank_all_kept
        assert (ranks == rank).mean() > 0.99  # equal scores count as better


def test_a_user_of_no_data_set_is_served_by_history(ran) -> None:
    settings, workspace = ran
    cell = pick_cell(settings)
    assert cell.method == "delta+selected"
    known = known_histories(workspace.scorer(cell)[1])
    split = workspace.scorer(cell)[1]
    ids = split.item_ids.take(pa.array(known.items[: known.offsets[1]] - 1)).to_pylist()
    user = known.users[0].as_py()
    one, other = recommend(workspace, cell, [user]), recommend(workspace, cell, history=ids)
    assert one.drop(["user_id", "score"]) == other.drop(["user_id", "score"])
    assert not set(one["item_id"].to_pylist()) & set(ids)
    assert one.num_rows == 10
    whole = recommend(workspace, cell, [user], n=10_000)
    assert whole.num_rows == split.num_items - len(set(ids))


def test_what_is_not_there_is_said(ran) -> None:
    settings, workspace = ran
    cell = pick_cell(settings)
    for arguments, told in (
        ({"users": ["nobody"]}, "user nobody: is not in the data set"),
        ({"history": ["nothing"]}, "item nothing: is not in the catalogue"),
    ):
        with pytest.raises(UserError, match=told):
            recommend(workspace, cell, **arguments)
    with pytest.raises(UserError, match="seed=43 has not been run"):
        recommend(workspace, pick_cell(settings, seed=43))
    for wanted, told in (
        ({"method": "popularity"}, "method: the sweep tiny has delta"),
        ({"method": "delta+knn+gate", "k": 4}, "k: .* has 3, 5, not 4"),
        ({"seed": 7}, "seed: .* has 42, 43, not 7"),
    ):
        with pytest.raises(UserError, match=told):
            pick_cell(settings, **wanted)
