"""The choice of a transfer on made-up data in which it is known what transfer can do."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from coldray.data.dataset import Sequences
from coldray.models.sasrec import SASRec, SASRecSettings
from coldray.transfer import Probe, SelectionSettings, TransferSettings, select_transfer
from coldray.transfer.selection import Judge, Tried, _candidates, _value

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


def test_warm_metric_lost_counts_below_everything_else() -> None:
    nothing, good = Tried(None, 0.1, 0.5), Tried(TransferSettings(), 0.01, 0.501)
    bad, worse = (Tried(TransferSettings(), 0.9, warm) for warm in (0.49, 0.4))
    values = [_value(item, nothing, QUICK) for item in (good, bad, worse)]
    assert values[0] > 0 > values[1] > values[2]


def test_candidates_are_the_best_for_cold_items_at_several_margins() -> None:
    made = [TransferSettings(k=k) for k in range(1, 7)]
    values = [(0.9, 0.4), (0.5, 0.5), (0.4, 0.502), (0.3, 0.506), (0.05, 0.6), (0.45, 0.5001)]
    tried = [Tried(None, 0.1, 0.5), *(Tried(m, *v) for m, v in zip(made, values, strict=True))]
    assert [settings.k for settings in _candidates(tried, QUICK)] == [2, 3, 4]
    assert _candidates(tried[:2], QUICK) == []


def test_without_users_of_both_kinds_nothing_is_transferred() -> None:
    probe = made_up(True, 0)
    warm = probe.users.take(np.flatnonzero(np.asarray(probe.users.targets) <= WARM))
    choice = select_transfer(replace(probe, users=warm), probe, QUICK)
    assert choice.transfer is None
    assert choice.tried == choice.verdicts == ()
    assert "no validation user" in choice.reason
