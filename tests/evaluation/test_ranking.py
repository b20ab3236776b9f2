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
