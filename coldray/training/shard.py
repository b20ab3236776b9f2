"""A part of a training that several processes do together: each takes some users of every batch, and all take the same step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed

from coldray.data.dataset import Split
from coldray.training.settings import TrainingSettings


@dataclass(frozen=True)
class Shard:
    """Which of the processes this is. They have joined one group of `torch.distributed` (gloo, or NCCL on GPUs) before."""

    rank: int
    world: int
    """number of processes"""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of {self.world}: ranks go from 0 to {self.world - 1}")

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        waiting = [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
        for work in waiting:
            if work is not None:
                work.wait()

    def mean(self, values: list[float], weight: float) -> list[float]:
        """Return the mean of each value over the processes, weighted; NaN where all weights are 0."""
        held = torch.tensor(
            [*(value * weight if weight else 0.0 for value in values), weight], dtype=torch.float64
        )
        self.add([held])
        return [float(value) for value in held[:-1] / held[-1]]


class Trains(Protocol):
    """Trains a backbone elsewhere: `coldray.sweep.spread.Spread`."""

    def train(
        self,
        split: Split,
        settings: TrainingSettings,
        seed: int,
        content: npt.NDArray[np.float32] | None,
        folder: str,
        state: str,
    ) -> Iterator[dict[str, float]]:
        """Leave the backbone in `folder`; yield the report of each epoch."""
        ...
