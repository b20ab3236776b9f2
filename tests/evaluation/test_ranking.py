import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.dataset import Sequences
from coldray.evaluation import Scorer, evaluate, ranking


class Table:
    """Scores that depend on the history only by its sum, so that removing items from it matters."""

    max_length = 4
    device = torch.device("cpu")

    def __init__(self, num_items: int, seed: int = 0) -> None:
        self.num_items = num_items
        self.table = torch.from_numpy(np.random.default_rng(seed).integers(0, 9, (64, num_items + 1))).float()

    def encode(self, histories: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return histories.sum(dim=1) % 64

    def scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.table[users]


def brute_force(
    scorer: Scorer, history: list[int], target: int, num_warm: int, warm_only: bool, keep_cold: bool
) -> int:
    read = [i for i in history if keep_cold or i <= num_warm][-scorer.max_length :]
    padded = torch.tensor([read or [0]])
    scores = scorer.scores(scorer.encode(padded, torch.tensor([len(read)])))[0].tolist()
    last = num_warm if warm_only else scorer.num_items
    candidates = [i for i in range(1, last + 1) if i not in history]
    if target not in candidates:
        return 0
    return 1 + sum(scores[i] >= scores[target] for i in candidates if i != target)


@given(st.data())
def test_every_setting_agrees_with_brute_force(data) -> None:
    num_items, num_warm = 12, 8
    item = st.integers(1, num_items)
    lists = data.draw(st.lists(st.lists(item, max_size=9), min_size=1, max_size=6))
    targets = [data.draw(item) for _ in lists]
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
    items = np.array([i for x in lists for i in x], np.int32)
    test = Sequences(
        pa.array([str(i) for i in range(len(lists))]), offsets, items, np.array(targets, np.int32)
    )
    scorer = Table(num_items, data.draw(st.integers(0, 5)))
    result = evaluate(scorer, test, num_warm)
    for column, warm_only, keep_cold in (
        ("rank_all_kept", False, True),
        ("rank_all_removed", False, False),
        ("rank_warm_kept", True, True),
        ("rank_warm_removed", True, False),
    ):
        expected = [
            brute_force(scorer, h, t, num_warm, warm_only, keep_cold)
            for h, t in zip(lists, targets, strict=True)
        ]
        assert getattr(result, column).tolist() == expected, column


def test_batches_change_nothing(tiny_split, monkeypatch) -> None:
    scorer = Table(tiny_split.num_items)
    whole = evaluate(scorer, tiny_split.test, tiny_split.num_warm)
    monkeypatch.setattr(ranking, "SCORE_BYTES", 4 * (tiny_split.num_items + 1) * 7)
    monkeypatch.setattr(ranking, "BATCH", 19)
    done: list[int] = []
    batched = evaluate(scorer, tiny_split.test, tiny_split.num_warm, progress=done.append)
    assert whole.to_table(tiny_split.train_counts).equals(batched.to_table(tiny_split.train_counts))
    assert done[-1] == len(tiny_split.test)


def test_a_method_that_cannot_tell_items_apart_gains_nothing(tiny_split) -> None:
    scorer = Table(tiny_split.num_items)
    scorer.table[:] = 1
    ranks = evaluate(scorer, tiny_split.test, tiny_split.num_warm, headline_only=True).rank_all_kept
    assert ((ranks == 0) | (ranks > 30)).all()  # 0: a target that the user has seen


def test_sequences_without_targets_are_refused(tiny_split) -> None:
    with pytest.raises(ValueError, match="targets"):
        evaluate(Table(tiny_split.num_items), tiny_split.train, tiny_split.num_warm)


@given(st.data())
def test_the_offset_of_an_exposure_gives_it(data) -> None:
    num_items, num_warm = 60, data.draw(st.integers(20, 40))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    scorer = Table(num_items)
    scorer.table = torch.from_numpy(random.normal(size=(64, num_items + 1))).float()
    n = 50
    histories = random.integers(1, num_warm + 1, 3 * n).astype(np.int32)
    targets = random.integers(1, num_items + 1, n).astype(np.int32)
    users = Sequences(pa.array([str(i) for i in range(n)]), np.arange(0, 3 * n + 1, 3), histories, targets)
    share = data.draw(st.floats(0.01, 0.9))  # met up to a few places: several users have the same scores
    (offset,) = ranking.exposure_offsets(scorer, users, num_warm, [share])
    scores = scorer.table[histories.reshape(n, 3).sum(axis=1) % 64].numpy().astype(np.float64)
    scores[:, num_warm + 1 :] += offset - 1e-6
    scores[:, 0] = -np.inf
    np.put_along_axis(scores, histories.reshape(n, 3), -np.inf, axis=1)
    first = np.argsort(-scores, axis=1)[:, :10]
    assert (first > num_warm).mean() == pytest.approx(share, abs=0.012)
    before = ranking.exposure_of_cold(scorer, users, num_warm)
    assert before >= ranking.LEAST * (num_items - num_warm) / num_items
    scorer.table[:, num_warm + 1 :] += offset - 1e-6
    assert ranking.exposure_of_cold(scorer, users, num_warm) == pytest.approx(
        max(share, ranking.LEAST * (num_items - num_warm) / num_items), abs=0.012
    )


def test_without_cold_items_there_is_nothing_to_expose() -> None:
    scorer = Table(12)
    users = Sequences(pa.array(["a"]), np.array([0, 2]), np.array([1, 2], np.int32), np.array([3], np.int32))
    assert ranking.exposure_offsets(scorer, users, 12, [0.1, 0.5]) == [0.0, 0.0]
    assert ranking.exposure_of_cold(scorer, users, 12) == 0.0
    few = ranking.exposure_offsets(
        scorer, users, 11, [0.05, 0.9]
    )  # one cold item has one place of ten at most
    assert few[0] == few[1]
