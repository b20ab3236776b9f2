"""Measures transfers on a probe: a model that never saw some warm items, and users of whom some want them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coldray.data.dataset import Sequences
from coldray.evaluation import ndcg
from coldray.evaluation.ranking import TopScores, calibration_users, encode_users, top_scores
from coldray.models.sasrec import SASRec
from coldray.models.scorers import SASRecScorer
from coldray.transfer.modalities import Spaces
from coldray.transfer.residuals import TransferSettings

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CHUNK = 1024
"""users whose scores of the cold items are held at a time"""


@dataclass(frozen=True)
class Probe:
    """A model that was trained without some items, and users who say how well it ranks them."""

    encoder: SASRec
    content: Float32
    """[num_items + 1, d] frozen vectors e0, the pseudo-cold items last, row 0 the padding's"""
    embeddings: Mapping[str, Float32]
    """[num_items + 1, e] each: `embedding`, which they were reduced from, and further ones by the names of their spaces"""
    residuals: Float32
    """[num_items + 1, d] trained residuals D"""
    num_warm: int
    known: Sequences
    """users on whom the exposure of cold items is set; their targets do not count"""
    users: Sequences
    """with targets of both kinds"""

    @property
    def spaces(self) -> Mapping[str, Float32]:
        """Every space in which neighbours can be looked for."""
        return {"item_vectors": self.content, **self.embeddings}


class _Steady:
    """Users without a cold item in their histories: whatever cold items are given, only these items' scores change."""

    def __init__(self, scorer: SASRecScorer, users: Sequences, num_warm: int) -> None:
        self.first = num_warm + 1
        self.queries = encode_users(scorer, users)
        self.top = top_scores(scorer, users, num_warm)
        targets = np.where(self.top.cold, np.asarray(users.targets) - self.first, 0)
        self.targets = torch.from_numpy(targets.astype(np.int64)).to(scorer.device)
        """[n] rows of the cold items; 0 where the target is warm"""

    @torch.inference_mode()
    def scored(self, table: Tensor) -> TopScores:
        """Return what `top_scores` returns with the cold items' vectors of `table` [num_items + 1, d]."""
        top, vectors = self.top, table[self.first :]
        best, target = np.full_like(top.best_cold, -np.inf), top.target.copy()
        width = min(best.shape[1], len(vectors))
        for start in range(0, len(best), CHUNK):
            rows = slice(start, start + CHUNK)
            scores = self.queries[rows] @ vectors.T
            best[rows, :width] = scores.topk(width, dim=1).values.cpu().numpy()
            # From the same product as `best`: a target is counted among the best only if it is the same to the bit.
            wanted = scores.gather(1, self.targets[rows, None])[:, 0].cpu().numpy()
            target[rows] = np.where(top.cold[rows], wanted, target[rows])
        return TopScores(target, top.cold, top.best_warm, best)


class Judge:
    """Measures transfers on a probe, on at most `most` of its users of each kind."""

    def __init__(self, probe: Probe, most: int, seed: int) -> None:
        self.probe = probe
        cold = np.asarray(probe.users.targets) > probe.num_warm
        random = np.random.default_rng(seed)
        drawn = [random.permutation(np.flatnonzero(kind))[:most] for kind in (cold, ~cold)]
        users = probe.users.take(np.sort(np.concatenate(drawn)))
        moving = users.without_cold(probe.num_warm).lengths != users.lengths
        self.moving = users.take(np.flatnonzero(moving))
        """users with cold items in their histories, who are encoded anew for each transfer"""
        self.users = users.take(np.concatenate([np.flatnonzero(~moving), np.flatnonzero(moving)]))
        """the others first"""
        self.is_cold = np.asarray(self.users.targets) > probe.num_warm
        device = next(probe.encoder.parameters()).device
        self._table = torch.from_numpy(probe.content + probe.residuals).to(device)
        self._spaces = Spaces(probe.spaces, probe.num_warm)
        plain, known = self._scorer(None), calibration_users(probe.known.without_cold(probe.num_warm))
        steady = self.users.take(np.arange(len(users) - len(self.moving)))
        self._known, self._steady = (_Steady(plain, part, probe.num_warm) for part in (known, steady))

    @property
    def sizes(self) -> tuple[int, int]:
        """Users with a pseudo-cold target, and with a warm one."""
        return int(self.is_cold.sum()), int((~self.is_cold).sum())

    def by_item(self, gains: Float64) -> Float64:
        """Return the sums [items] of what users with a pseudo-cold target gain [n], over those with the same target.

        A residual that happens to suit an item suits all who want it: other items, not other users, are the question.
        """
        targets = np.asarray(self.users.targets)[self.is_cold]
        _, item = np.unique(targets, return_inverse=True)
        return np.bincount(item, weights=gains).astype(np.float64)

    def residuals(self, settings: TransferSettings) -> Float32:
        """Return what the pseudo-cold items get from the warm ones, [n, d]."""
        warm = self.probe.residuals[1 : self.probe.num_warm + 1]
        made: Float32 = self._spaces.transfer(warm, settings).residuals
        return made

    def gains(
        self, residuals: Float32 | None, exposures: Sequence[float | None] = (None,)
    ) -> tuple[Float64, Float64]:
        """Return NDCG@10 of users with a pseudo-cold target [exposures, n] and of those with a warm one [exposures, m].

        `residuals` [items, d] are given to the pseudo-cold items; None: nothing is. Exposure None: items as scored.
        """
        asked = [exposure * self.exposure for exposure in exposures if exposure is not None]
        scorer = self._scorer(residuals)
        parts = [self._steady.scored(self._table)]
        if len(self.moving):
            parts.append(top_scores(scorer, self.moving, self.probe.num_warm))
        top = TopScores.beside(parts)
        offsets = iter(self._known.scored(self._table).offsets(asked) if asked else ())
        gains = [ndcg(top.ranks(0.0 if exposure is None else next(offsets))) for exposure in exposures]
        table = np.array(gains, np.float64)
        return table[:, self.is_cold], table[:, ~self.is_cold]

    @cached_property
    def exposure(self) -> float:
        """Share of the first ten places that the pseudo-cold items get without transfer."""
        num_items = len(self.probe.content) - 1
        return self._known.top.exposure((num_items - self.probe.num_warm) / num_items)

    def _scorer(self, residuals: Float32 | None) -> SASRecScorer:
        first = self.probe.num_warm + 1
        vectors = self.probe.content[first:] + (0 if residuals is None else residuals)
        self._table[first:] = torch.from_numpy(vectors).to(self._table)
        return SASRecScorer(self.probe.encoder, self._table)


class Panel:
    """Several judges as one: what they measure stands side by side, in their order."""

    def __init__(self, probes: Sequence[Probe], most: int, seed: int) -> None:
        self.judges = [Judge(probe, most, seed) for probe in probes]

    @property
    def sizes(self) -> tuple[int, int]:
        """Users with a pseudo-cold target, and with a warm one."""
        cold, warm = zip(*(judge.sizes for judge in self.judges), strict=True)
        return sum(cold), sum(warm)

    @property
    def num_warm(self) -> int:
        """Fewest warm items of a probe."""
        return min(judge.probe.num_warm for judge in self.judges)

    @property
    def spaces(self) -> tuple[str, ...]:
        """Names of the spaces in which neighbours can be looked for."""
        return tuple(self.judges[0].probe.spaces)

    def gains(
        self, settings: TransferSettings | None, exposures: Sequence[float | None] = (None,)
    ) -> tuple[Float64, Float64]:
        """Return what `Judge.gains` returns, with the residuals that `settings` give; None: without any."""
        return _beside(
            judge.gains(None if settings is None else judge.residuals(settings), exposures)
            for judge in self.judges
        )

    def by_item(self, gains: Float64) -> Float64:
        """Return what `Judge.by_item` returns for users with a pseudo-cold target [n]."""
        ends = np.cumsum([judge.sizes[0] for judge in self.judges])[:-1]
        parts = zip(self.judges, np.split(gains, ends), strict=True)
        return np.concatenate([judge.by_item(part) for judge, part in parts])


def _beside(parts: Iterable[tuple[Float64, Float64]]) -> tuple[Float64, Float64]:
    cold, warm = zip(*parts, strict=True)
    return np.concatenate(cold, axis=1), np.concatenate(warm, axis=1)
