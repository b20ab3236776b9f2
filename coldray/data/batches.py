"""Sequences on a device, and the padded batches that models read.

Histories are short and very unequal (the median of a shop's users is a handful), so batches are made of sequences of
about the same length: almost nothing of a batch is padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coldray.data.dataset import Sequences


@dataclass(frozen=True)
class DeviceSequences:
    """Item sequences as tensors on one device; the lengths stay on the host, which plans the batches."""

    items: Tensor
    """[total] int64"""
    offsets: Tensor
    """[n + 1] int64"""
    lengths: npt.NDArray[np.int64]
    """[n], on the host"""

    @classmethod
    def of(cls, sequences: Sequences, device: torch.device | str = "cpu") -> "DeviceSequences":
        """Return `sequences` on `device`."""
        items = torch.from_numpy(sequences.items.astype(np.int64)).to(device)
        return cls(items, torch.from_numpy(sequences.offsets).to(device), sequences.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, ids: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return the last `width` items of the sequences `ids`, and how many each has of them.

        Items [len(ids), width] int64, the padding (0) on the right; lengths [len(ids)] int64. Nothing here waits
        for the device.
        """
        ends = self.offsets[ids + 1]
        lengths = (ends - self.offsets[ids]).clamp_(max=width)
        steps = torch.arange(width, device=self.items.device)
        places = (ends - lengths)[:, None] + steps
        inside = steps < lengths[:, None]
        if not len(self.items):
            return torch.zeros_like(places), lengths
        return self.items[places.clamp_(max=len(self.items) - 1)] * inside, lengths


@dataclass(frozen=True)
class Plan:
    """Which sequences make which batch, in order."""

    order: npt.NDArray[np.int64]
    """[n] sequence ids; batch i is order[starts[i]:starts[i + 1]]"""
    starts: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    """[batches] length of the longest sequence of each batch, cut at the maximum length; at least 1"""
    totals: npt.NDArray[np.int64]
    """[batches] number of items of each batch, padding not counted"""

    def __len__(self) -> int:
        return len(self.widths)

    def part(self, rank: int, world: int, lengths: npt.NDArray[np.int64], max_length: int) -> "Plan":
        """Return what process `rank` of `world` has of each batch: every `world`-th of its sequences; `lengths` are those of all.

        There are as many batches as in the whole plan, though one may have none of the last sequences.
        """
        bounds = zip(self.starts[:-1], self.starts[1:], strict=True)
        return _plan([self.order[a:b][rank::world] for a, b in bounds], np.minimum(lengths, max_length))

    def on(self, device: torch.device | str) -> Iterator[tuple[Tensor, int, int]]:
        """Yield (sequence ids [b] int64 on `device`, width, total) of each batch; one transfer for all of them."""
        order = torch.from_numpy(self.order).to(device)
        bounds = self.starts.tolist()
        for i, (width, total) in enumerate(zip(self.widths.tolist(), self.totals.tolist(), strict=True)):
            yield order[bounds[i] : bounds[i + 1]], width, total


def plan_batches(
    lengths: npt.NDArray[np.int64],
    batch_size: int,
    max_length: int,
    rng: np.random.Generator | None = None,
    window: int = 64,
) -> Plan:
    """Return batches of sequences of about equal length.

    With `rng` (training) the sequences are shuffled, sorted by length within windows of `window` batches, and the
    batches shuffled, so that every epoch's batches differ. Without (evaluation) all are sorted by length.
    """
    n = len(lengths)
    clipped = np.minimum(lengths, max_length)
    if rng is None:
        order = np.argsort(clipped, kind="stable")
    else:
        order = rng.permutation(n)
        group = np.arange(n) // (window * batch_size)
        order = order[np.lexsort((clipped[order], group))]
    batches = np.split(order, range(batch_size, n, batch_size)) if n else []
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return _plan(batches, clipped)


def _plan(batches: list[npt.NDArray[np.int64]], clipped: npt.NDArray[np.int64]) -> Plan:
    return Plan(
        order=np.concatenate(batches).astype(np.int64) if batches else np.zeros(0, np.int64),
        starts=np.cumsum([0, *(len(batch) for batch in batches)]),
        widths=np.array([clipped[batch].max(initial=1) for batch in batches], dtype=np.int64),
        totals=np.array([clipped[batch].sum() for batch in batches], dtype=np.int64),
    )
