"""The choice of a transfer on made-up data in which it is known what transfer can do."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from coldray.data.dataset import Sequences
from coldray.models.sasrec import SASRec, SASRecSettings
from coldray.transfer import Probe, SelectionSettings, TransferSettings, select_transfer
from coldray.transfer.selection import Judge, Tried, _candidates

DIM, GROUPS, SIZE, USERS = 16, 20, 12, 1500
WARM = GROUPS * SIZE * 5 // 6
QUICK = SelectionSettings(trials=15, users=200, test_users=500)


class _LastItem(SASRec):
    """An encoder whose query is the vector of the last item: who had an item wants one like it."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors


def made_up(aligned: bool, seed: int) -> Probe:
    """Items in groups, users who stay in theirs, a sixth of the items without residuals.

    What a group likes is in the residuals. Aligned: e0 says which group an item is of; else it says nothing.
    """
    random = np.random.default_rng(seed)
    group = np.arange(GROUPS * SIZE) % GROUPS
    centres, taste = random.normal(size=(2, GROUPS, DIM))
    content = centres[group] if aligned else random.normal(size=(len(group), DIM))
    content = content + 0.2 * random.normal(size=content.shape)
    content *= 0.5 / np.linalg.norm(content, axis=1, keepdims=True)
    residuals = 2 * taste[group] / np.linalg.norm(taste[group], axis=1, keepdims=True)
    residuals[WARM:] = 0
    zero = np.zeros((1, DIM))
    content, residuals = (np.vstack([zero, rows]).astype(np.float32) for rows in (content, residuals))
    members = [np.flatnonzero(group == g) + 1 for g in range(GROUPS)]
    rows = [random.permutation(members[i % GROUPS]) for i in range(USERS)]
    histories = np.array([row[row <= WARM][:2] for row in rows], np.int32)
    targets = np.array(
        [
            next(item for item in row[::-1] if item not in seen)
            for row, seen in zip(rows, histories, strict=True)
        ]
    )
    users = pa.array([f"u{i}" for i in range(USERS)])
    sequences = Sequences(users, np.arange(0, 2 * USERS + 1, 2), histories.ravel(), targets.astype(np.int32))
    return Probe(
        _LastItem(SASRecSettings(dim=DIM, max_length=4)).eval(), content, content, residuals, WARM, sequences
    )


def test_a_transfer_that_helps_is_chosen() -> None:
    choice = select_transfer(made_up(True, 0), made_up(True, 1), QUICK)
    assert choice.transfer is not None
    verdict = next(verdict for verdict in choice.verdicts if verdict.transfer == choice.transfer)
    assert verdict.passed
    assert verdict.after[0] > 1.2 * verdict.before[0]
    assert verdict.after[0] > 1.2 * verdict.shuffled
    assert verdict.after[1] >= verdict.before[1] * (1 - QUICK.max_warm_loss)
    assert "pseudo-cold NDCG@10" in choice.reason
    assert len(choice.tried) == QUICK.trials + 1
    assert choice.tried[0].transfer is None
    assert choice.tried[1].transfer == TransferSettings()


def test_where_neighbours_say_nothing_none_is_chosen() -> None:
    choices = [select_transfer(made_up(False, seed), made_up(False, 99 - seed), QUICK) for seed in range(10)]
    assert (
        sum(choice.transfer is not None for choice in choices) <= 1
    )  # at p 0.05, one in twenty may be by chance
    assert "no transfer" in choices[0].reason


def test_what_holds_on_the_first_probe_alone_is_not_chosen() -> None:
    choice = select_transfer(made_up(True, 0), made_up(False, 1), QUICK)
    assert choice.transfer is None
    assert choice.verdicts
    assert not any(verdict.passed for verdict in choice.verdicts)


def test_the_same_arguments_give_the_same_choice() -> None:
    first, again = (select_transfer(made_up(True, 0), made_up(True, 1), QUICK).record() for _ in range(2))
    assert first == again
    other = QUICK.model_copy(update={"seed": 1})
    assert first["tried"] != select_transfer(made_up(True, 0), made_up(True, 1), other).record()["tried"]


def test_users_are_counted_and_bounded_by_kind() -> None:
    probe = made_up(True, 0)
    whole = Judge(probe, 10_000, seed=0)
    cold = int((np.asarray(probe.users.targets) > WARM).sum())
    assert whole.sizes == (cold, USERS - cold)
    few = Judge(probe, 50, seed=0)
    assert few.sizes == (50, 50)
    assert [len(part) for part in few.ndcg(None)] == [50, 50]


def test_gains_are_tested_by_item() -> None:
    judge = Judge(made_up(True, 0), 10_000, seed=0)
    targets = np.asarray(judge.users.targets)[judge.is_cold]
    sums = judge.by_item(np.ones(len(targets)))
    assert sums.tolist() == [int((targets == item).sum()) for item in np.unique(targets)]


def test_an_offset_moves_cold_items_down_the_lists() -> None:
    judge = Judge(made_up(True, 0), 10_000, seed=0)
    low, high = (judge.ndcg(TransferSettings(offset=offset)) for offset in (-50.0, 50.0))
    assert low[0].sum() == 0
    assert high[0].mean() > 0
    assert high[1].mean() < low[1].mean()
    again = judge.ndcg(None)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(again, Judge(made_up(True, 0), 10_000, 0).ndcg(None), strict=True)
    )


def test_neighbours_are_looked_for_in_the_space_that_is_asked_for() -> None:
    probe = made_up(True, 0)
    probe = replace(probe, embedding=np.roll(probe.content, 1, axis=1)[:, ::-1].copy())
    noise = np.random.default_rng(5).normal(size=probe.content.shape).astype(np.float32)
    judge = Judge(replace(probe, content=noise), 10_000, seed=0)
    near = {
        space: judge.transfer(TransferSettings(space=space)).neighbors
        for space in ("item_vectors", "embedding")
    }
    groups = (np.arange(1, WARM + 1) - 1) % GROUPS
    own = (np.arange(WARM, GROUPS * SIZE)) % GROUPS
    share = {space: (groups[ids] == own[:, None]).mean() for space, ids in near.items()}
    assert share["embedding"] > 0.9
    assert share["item_vectors"] < 0.3


def test_a_curve_has_what_ranking_gives_at_each_offset() -> None:
    judge = Judge(made_up(True, 0), 300, seed=0)
    for settings in (None, TransferSettings(k=3, rescale=True)):
        curve = judge.curve(settings)
        for place in (0, 5, 10, 17, 20):
            offset = curve.offsets[place]
            biased = (settings or TransferSettings(alpha=0.0)).model_copy(update={"offset": offset})
            cold, warm = judge.ndcg(biased)
            assert curve.cold[place] == pytest.approx(cold.mean(), abs=1e-6)
            assert curve.warm[place] == pytest.approx(warm.mean(), abs=1e-6)


def curve(k, cold, warm):
    return Tried(None if k is None else TransferSettings(k=k), (-1.0, 0.0, 1.0), cold, warm)


def test_settings_are_compared_where_they_cost_the_same() -> None:
    item = curve(3, (0.1, 0.2, 0.9), (0.51, 0.5, 0.4))
    assert item.best(0.5) == (0.2, 0.0)
    assert item.best(0.505) == (0.1, -1.0)
    assert item.best(0.6)[0] == -np.inf


def test_candidates_are_the_best_for_cold_items_at_several_margins() -> None:
    tried = [
        curve(None, (0.0, 0.1, 0.2), (0.51, 0.5, 0.4)),
        curve(1, (0.2, 0.4, 0.9), (0.52, 0.499, 0.4)),
        curve(2, (0.1, 0.3, 0.8), (0.52, 0.501, 0.4)),
    ]
    assert [(made.k, made.offset) for made in _candidates(tried, QUICK)] == [(1, 0.0), (2, 0.0), (1, -1.0)]
    assert _candidates([tried[0], curve(1, (0.0, 0.05, 0.1), (0.5, 0.5, 0.5))], QUICK) == []


def test_without_users_of_both_kinds_nothing_is_transferred() -> None:
    probe = made_up(True, 0)
    warm = probe.users.take(np.flatnonzero(np.asarray(probe.users.targets) <= WARM))
    choice = select_transfer(replace(probe, users=warm), probe, QUICK)
    assert choice.transfer is None
    assert choice.tried == choice.verdicts == ()
    assert "no validation user" in choice.reason
