"""A part of a training that several processes do together: each takes some users of every batch, and all take the same step."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


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

    def mean(self, values: list[float], weight: float, device: torch.device) -> list[float]:
        """Return the mean of each value over the processes, weighted; NaN where all weights are 0.

        `device` is the one that they compute on: NCCL adds nothing that is elsewhere.
        """
        weighted = [value * weight if weight else 0.0 for value in values]
        held = torch.tensor([*weighted, weight], dtype=torch.float64, device=device)
        self.add([held])
        return [float(value) for value in held[:-1] / held[-1]]
