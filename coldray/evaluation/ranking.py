"""Rank the whole catalogue for every user, seen items removed, in the four settings of a cold-start evaluation.

Candidates are all items or the warm ones; cold items in histories are kept or removed. The headline is all, kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from coldray.data.batches import DeviceSequences, plan_batches
from coldray.data.dataset import Sequences

Ranks = npt.NDArray[np.int32]

BATCH = 512
"""users encoded at a time on a CPU; a GPU takes 16 times as many"""
SCORE_BYTES = 1 << 21
"""size of the scores held at a time on a CPU, so that they stay in its second-level caches; a GPU takes 256 times as many"""
CALIBRATION = 2000
"""most users that set the offset for an exposure; their 20,000 places tell a share of 2% to about a tenth of a per cent"""
LEAST = 0.1
"""what is nowhere among the first ten still needs an exposure of which there can be multiples"""


class Scorer(Protocol):
    """What can be evaluated: a method that scores every item for a history."""

    num_items: int
    max_length: int
    """items of a history, the last ones, that are read"""
    device: torch.device

    def encode(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return what the method knows of each user, [B, ...], from histories [B, L] int64 padded with 0 on the right.

        lengths [B] may be 0.
        """

    def scores(self, users: Tensor) -> Tensor:
        """Return float scores [B, num_items + 1] for users [B, ...] as `encode` gives them.

        Column 0, the padding's, is ignored. The caller may overwrite what it is given, and the next call may too.
        """


@dataclass(frozen=True)
class Evaluation:
    """The rank of every user's target in each setting: 1 is best, 0 means that it was not a candidate.

    A target is no candidate where only warm items are and it is cold, and where the user has already seen it. Other
    items with the target's score count as better, so that a method that cannot tell items apart gains nothing.
    """

    users: pa.Array
    """[n] string"""
    targets: npt.NDArray[np.int32]
    """[n] item indices"""
    cold: npt.NDArray[np.bool_]
    """[n] whether the target is a cold item"""
    rank_all_kept: Ranks
    rank_all_removed: Ranks
    rank_warm_kept: Ranks
    rank_warm_removed: Ranks

    def to_table(self, train_counts: npt.NDArray[np.int64]) -> pa.Table:
        """Return one row a user: the columns of this class and the target's train_count."""
        names = {"users": "user_id", "targets": "target"}
        table = {names.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}
        return pa.table(table | {"train_count": train_counts[self.targets]})


def evaluate(
    scorer: Scorer,
    test: Sequences,
    num_warm: int,
    *,
    headline_only: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Return the rank of each sequence's target among the catalogue.

    `headline_only` leaves the other three settings at rank 0; `progress` is told the number of users done.
    Raises ValueError if the sequences have no targets.
    """
    if test.targets is None:
        raise ValueError("sequences to be evaluated need targets")
    kept = _ranks(scorer, test, num_warm, progress)
    removed = kept.copy()
    if not headline_only:
        shorter = test.without_cold(num_warm)
        changed = np.flatnonzero(shorter.lengths != test.lengths)
        removed[changed] = _ranks(scorer, shorter.take(changed), num_warm, None, seen=test.take(changed))
    else:
        removed[:] = kept[:, 1] = 0
    return Evaluation(
        test.users,
        test.targets,
        test.targets > num_warm,
        kept[:, 0],
        removed[:, 0],
        kept[:, 1],
        removed[:, 1],
    )


@torch.inference_mode()
def _ranks(
    scorer: Scorer,
    test: Sequences,
    num_warm: int,
    progress: Callable[[int], None] | None,
    seen: Sequences | None = None,
) -> Ranks:
    """Return ranks [n, 2]: among all items, among warm items. `seen` is what is removed, by default the history."""
    ranks = torch.zeros(len(test), 2, dtype=torch.int32, device=scorer.device)
    done = 0
    for ids, scores, targets, seen_here in _scored(scorer, test, seen):
        ranks[ids] = _rank_batch(scores, targets, seen_here, num_warm)
        done += len(ids)
        if progress is not None:
            progress(done)
    ranked: Ranks = ranks.cpu().numpy()
    return ranked


def _scored(
    scorer: Scorer, test: Sequences, seen: Sequences | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield of some users at a time: places in `test` [B], scores [B, N + 1], targets [B], seen items [B, S].

    Without targets they are 0.
    """
    device = scorer.device
    histories = DeviceSequences.of(test, device)
    seen_items = histories if seen is None else DeviceSequences.of(seen, device)
    wanted = np.zeros(len(test)) if test.targets is None else np.asarray(test.targets)
    targets = torch.from_numpy(wanted.astype(np.int64)).to(device)
    scale = 1 if device.type == "cpu" else 16
    rows = max(1, scale * scale * SCORE_BYTES // (4 * (scorer.num_items + 1)))
    widest_seen = int(seen_items.lengths.max(initial=1))
    for ids, width, _ in plan_batches(histories.lengths, scale * BATCH, scorer.max_length).on(device):
        users = scorer.encode(*histories.padded(ids, width))
        seen_width = width if seen is None and width < scorer.max_length else widest_seen
        seen_here = seen_items.padded(ids, seen_width)[0]
        for part in torch.split(torch.arange(len(ids), device=device), rows):
            yield ids[part], scorer.scores(users[part]), targets[ids[part]], seen_here[part]


@dataclass(frozen=True)
class TopScores:
    """What it takes to rank targets in the first ten under any offset of the cold items' scores."""

    target: npt.NDArray[np.float32]
    """[n] score of the target; -inf for one that the user has seen"""
    cold: npt.NDArray[np.bool_]
    """[n] whether the target is cold"""
    best_warm: npt.NDArray[np.float32]
    """[n, k] the highest scores of warm items that the user has not seen, at least the rank that is asked for and one"""
    best_cold: npt.NDArray[np.float32]
    """[n, k] likewise of cold items"""

    @classmethod
    def beside(cls, parts: Sequence["TopScores"]) -> "TopScores":
        """Return the scores of several groups of users as those of one, in their order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def ranks(self, offset: float) -> Ranks:
        """Return [n] the targets' ranks with `offset` added to all cold items' scores, those beyond k - 1 as k or more."""
        bar = self.target[:, None]
        to_warm = np.where(self.cold, offset, 0.0)[:, None].astype(np.float32)
        to_cold = np.where(self.cold, 0.0, -offset)[:, None].astype(np.float32)
        better = (self.best_warm >= bar + to_warm).sum(axis=1) + (self.best_cold >= bar + to_cold).sum(axis=1)
        ranks: Ranks = (better * np.isfinite(self.target)).astype(np.int32)
        return ranks

    @property
    def bars(self) -> npt.NDArray[np.float32]:
        """The offsets [n (k - 1)] at which one more cold item comes into a user's first k - 1 places, inf where none can.

        A user's j-th best cold item comes in when it passes the j-th last of the warm items there.
        """
        places = self.best_warm.shape[1] - 1
        with np.errstate(invalid="ignore"):
            bars = (self.best_warm[:, places - 1 :: -1] - self.best_cold[:, :places]).ravel()
        return np.where(np.isnan(bars), np.inf, bars).astype(np.float32)

    def exposure(self, share: float) -> float:
        """Return the share of first places that cold items get, at least `LEAST` of their `share` of the catalogue."""
        return max(LEAST * share, float((self.bars < 0).mean()))

    def offsets(self, exposures: Sequence[float]) -> list[float]:
        """Return the offsets of the cold items' scores that give them these shares of the first places.

        Where there are too few cold items for a share, the offset is the one that gives them the most; 0 without any.
        """
        bars = self.bars
        possible = np.sort(bars[np.isfinite(bars)])
        if not len(possible):
            return [0.0] * len(exposures)
        return [float(possible[min(int(share * len(bars)), len(possible) - 1)]) for share in exposures]


@torch.inference_mode()
def top_scores(scorer: Scorer, test: Sequences, num_warm: int, k: int = 11) -> TopScores:
    """Return the scores that decide which targets are in the first k - 1 ranks, for sequences with targets."""
    found = torch.full((len(test), 2 * k + 1), float("-inf"), device=scorer.device)
    for ids, scores, targets, seen in _scored(scorer, test):
        scores.scatter_(1, seen, float("-inf"))[:, 0] = float("-inf")
        found[ids, 0] = scores.gather(1, targets[:, None])[:, 0]
        for first, part in ((1, scores[:, 1 : num_warm + 1]), (k + 1, scores[:, num_warm + 1 :])):
            width = min(k, part.shape[1])
            found[ids, first : first + width] = part.topk(width, dim=1).values
    table = found.cpu().numpy()
    cold = np.asarray(test.targets) > num_warm
    return TopScores(table[:, 0], cold, table[:, 1 : k + 1], table[:, k + 1 :])


@torch.inference_mode()
def top_items(
    scorer: Scorer, users: Sequences, n: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return the n items with the highest scores of those that a user has not had, best first: indices [users, n], scores.

    Where there are fewer the rest are 0, with a score of -inf.
    """
    items = torch.zeros(len(users), n, dtype=torch.int32)
    best = torch.full((len(users), n), float("-inf"))
    for ids, scores, _, seen in _scored(scorer, users):
        scores.scatter_(1, seen, float("-inf"))[:, 0] = float("-inf")
        found = scores.topk(min(n, scores.shape[1]), dim=1)
        width, at = found.values.shape[1], ids.cpu()
        items[at, :width] = (found.indices * torch.isfinite(found.values)).int().cpu()
        best[at, :width] = found.values.float().cpu()
    return items.numpy(), best.numpy()


@torch.inference_mode()
def encode_users(scorer: Scorer, users: Sequences) -> Tensor:
    """Return what the method knows of each user [n, ...], in their order."""
    histories = DeviceSequences.of(users, scorer.device)
    every = torch.arange(len(users), device=scorer.device)
    parts = []
    for ids in torch.split(every, BATCH):
        width = min(scorer.max_length, int(histories.lengths[ids.cpu().numpy()].max(initial=1)))
        parts.append(scorer.encode(*histories.padded(ids, width)))
    return torch.cat(parts)


def calibration_users(users: Sequences) -> Sequences:
    """Return the users on whom exposures are measured: at most `CALIBRATION` of them, drawn once."""
    if len(users) <= CALIBRATION:
        return users
    drawn = np.random.default_rng(0).choice(len(users), CALIBRATION, replace=False)
    return users.take(np.sort(drawn))


def exposure_of_cold(scorer: Scorer, users: Sequences, num_warm: int) -> float:
    """Return the share of the users' first ten places that cold items get, at least `LEAST` of their share of the catalogue.

    Only `calibration_users` are looked at; they need targets, which do not count.
    """
    top = top_scores(scorer, calibration_users(users), num_warm)
    return top.exposure((scorer.num_items - num_warm) / scorer.num_items)


def exposure_offsets(
    scorer: Scorer, users: Sequences, num_warm: int, exposures: Sequence[float]
) -> list[float]:
    """Return the offsets of the cold items' scores that give them these shares of the users' first ten places.

    The users are those of `exposure_of_cold`.
    """
    return top_scores(scorer, calibration_users(users), num_warm).offsets(exposures)


def _rank_batch(scores: Tensor, targets: Tensor, seen: Tensor, num_warm: int) -> Tensor:
    """Return ranks [B, 2] int32 from scores [B, N + 1], targets [B] and seen items [B, S] padded with 0."""
    target_scores = scores.gather(1, targets[:, None])
    lowest = torch.finfo(scores.dtype).min
    scores.scatter_(1, seen, lowest)[:, 0] = lowest
    better = scores >= target_scores
    warm = better[:, 1 : num_warm + 1].sum(dim=1, dtype=torch.int32)
    cold = better[:, num_warm + 1 :].sum(dim=1, dtype=torch.int32)
    fresh = (scores.gather(1, targets[:, None]) != lowest).squeeze(1)
    # The target itself is among those counted, so the counts are ranks.
    return torch.stack([(warm + cold) * fresh, warm * (fresh & (targets <= num_warm))], dim=1)
