"""Probes on made-up data in which it is known what transfer can do."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from coldray.data.dataset import Sequences
from coldray.models.sasrec import SASRec, SASRecSettings
from coldray.transfer import Probe

DIM, GROUPS, SIZE, TASTES, USERS = 16, 40, 6, 20, 1500
WARM = GROUPS * SIZE * 5 // 6


class _LastItem(SASRec):
    """An encoder whose query is the vector of the last item: who had an item wants one like it."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors


def _made_up(aligned: bool, seed: int) -> Probe:
    """Items in GROUPS groups that take turns, users with one of TASTES tastes, a sixth of the items without residuals.

    Two groups are to the same taste, which is in the residuals alone. Aligned: e0 says which group an item is of, so that
    its neighbours know its taste; else it says nothing. A taste has fewer warm items than a list has places.
    """
    random = np.random.default_rng(seed)
    group = np.arange(GROUPS * SIZE) % GROUPS
    centres, tastes = random.normal(size=(GROUPS, DIM)), random.normal(size=(TASTES, DIM))
    content = centres[group] if aligned else random.normal(size=(len(group), DIM))
    content = content + 0.2 * random.normal(size=content.shape)
    content *= 0.5 / np.linalg.norm(content, axis=1, keepdims=True)
    residuals = 2 * (tastes / np.linalg.norm(tastes, axis=1, keepdims=True))[group % TASTES]
    residuals[WARM:] = 0
    zero = np.zeros((1, DIM))
    content, residuals = (np.vstack([zero, rows]).astype(np.float32) for rows in (content, residuals))
    members = [np.flatnonzero(group % TASTES == taste) + 1 for taste in range(TASTES)]
    rows = [random.permutation(members[i % TASTES]) for i in range(USERS)]
    histories = np.array([row[row <= WARM][:2] for row in rows], np.int32)
    targets = np.array(
        [
            next(item for item in row[::-1] if item not in seen)
            for row, seen in zip(rows, histories, strict=True)
        ]
    )
    users = pa.array([f"u{i}" for i in range(USERS)])
    sequences = Sequences(users, np.arange(0, 2 * USERS + 1, 2), histories.ravel(), targets.astype(np.int32))
    encoder = _LastItem(SASRecSettings(dim=DIM, max_length=4)).eval()
    return Probe(encoder, content, {"embedding": content}, residuals, WARM, sequences, sequences)


@pytest.fixture(scope="session")
def made_up() -> Callable[[bool, int], Probe]:
    """Return what makes probes: aligned or not, from a seed."""
    return _made_up
