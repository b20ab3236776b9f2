"""The alignment is 1 where neighbours share their residuals, 0 where they do not, and between these in between."""

import numpy as np
import pytest

from coldray.transfer import alignment


def made(share: float, n: int = 600, groups: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Items in groups that `share` of them have their residual from."""
    random = np.random.default_rng(seed)
    group = np.arange(n) % groups
    vectors = random.normal(size=(groups, 16))[group] + 0.1 * random.normal(size=(n, 16))
    told = random.permutation(n) < share * n
    residuals = np.where(told[:, None], random.normal(size=(groups, 8))[group], random.normal(size=(n, 8)))
    return vectors.astype(np.float32), residuals.astype(np.float32)


def test_it_tells_what_neighbours_say() -> None:
    full, half, none = (alignment(*made(share)) for share in (1.0, 0.5, 0.0))
    assert full > 0.95
    assert 0.2 < half < 0.8
    assert abs(none) < 0.05


def test_what_all_have_in_common_says_nothing() -> None:
    vectors, residuals = made(0.0)
    assert abs(alignment(vectors, residuals + 5.0)) < 0.05


def test_length_does_not_count_and_items_without_residual_neither() -> None:
    vectors, residuals = made(1.0)
    scale = np.random.default_rng(1).uniform(0.1, 10, (len(vectors), 1)).astype(np.float32)
    assert alignment(vectors, residuals * scale) == pytest.approx(alignment(vectors, residuals), abs=1e-3)
    assert np.isnan(alignment(vectors, np.zeros_like(residuals)))
    assert np.isnan(alignment(vectors[:1], residuals[:1]))


def test_equal_vectors_do_not_make_an_item_its_own_neighbour() -> None:
    vectors = np.ones((40, 4), np.float32)
    residuals = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    assert abs(alignment(vectors, residuals, k=5)) < 0.35
