"""The neighbour search: exact against brute force, ties, degenerate input, recall of the others."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from coldray.errors import UserError
from coldray.transfer.neighbors import Index, nearest_warm

Float32 = npt.NDArray[np.float32]


def clustered(rng: np.random.Generator, number: int, clusters: int = 40, size: int = 32) -> Float32:
    centres = np.random.default_rng(1).normal(size=(clusters, size))
    rows = centres[rng.integers(clusters, size=number)] + 0.4 * rng.normal(size=(number, size))
    return rows.astype(np.float32)


def brute_force(
    cold: Float32, warm: Float32, k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    left, right = cold.astype(np.float64), warm.astype(np.float64)
    left /= np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-300)
    right /= np.maximum(np.linalg.norm(right, axis=1, keepdims=True), 1e-300)
    similarities = left @ right.T
    ids = np.stack(
        [sorted(range(len(warm)), key=lambda i: (-round(row[i], 12), i))[:k] for row in similarities]
    )
    return ids, np.take_along_axis(similarities, ids, 1)


def test_exact_equals_brute_force_for_any_scale_and_batch() -> None:
    rng = np.random.default_rng(0)
    cold = clustered(rng, 50) * rng.uniform(0.01, 100, size=(50, 1)).astype(np.float32)
    warm = clustered(rng, 300)
    ids, similarities = brute_force(cold, warm, 10)
    for batch_size in (1, 7, 2048):
        found = nearest_warm(cold, warm, 10, batch_size=batch_size)
        assert np.array_equal(found.ids, ids)
        assert np.abs(found.similarities - similarities).max() < 1e-12
    assert found.ids.dtype == np.int32
    assert found.similarities.dtype == np.float64


def test_a_small_k_is_a_prefix_of_a_large_one() -> None:
    """Among groups of nearly equal items far larger than the margin of the search."""
    rng = np.random.default_rng(0)
    distinct = clustered(rng, 6)
    warm = distinct[rng.integers(6, size=900)] * rng.uniform(0.5, 2, size=(900, 1)).astype(np.float32)
    cold = np.concatenate([distinct, clustered(rng, 20)])
    every = nearest_warm(cold, warm, 100)
    for k in (1, 10, 25, 99):
        alone = nearest_warm(cold, warm, k)
        assert np.array_equal(alone.ids, every.first(k).ids)
        assert np.array_equal(alone.similarities, every.first(k).similarities)


def test_exact_duplicates_take_the_lowest_rows() -> None:
    rng = np.random.default_rng(0)
    warm = np.repeat(clustered(rng, 4), 200, axis=0)
    found = nearest_warm(warm[[0, 250, 799]], warm, 50)
    assert found.ids.tolist() == [list(range(start, start + 50)) for start in (0, 200, 600)]


def test_zero_vectors_are_similar_to_nothing() -> None:
    warm = np.array([[0, 0], [-1, 0], [0, 1], [1, 0]], np.float32)
    cold = np.array([[0, 0], [2, 0]], np.float32)
    found = nearest_warm(cold, warm, 3)
    assert found.ids.tolist() == [[0, 1, 2], [3, 0, 2]]
    assert found.similarities.tolist() == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(("index", "least"), [(Index(kind="ivf"), 0.9), (Index(kind="hnsw"), 0.9)])
def test_recall_of_the_approximate_kinds(index: Index, least: float) -> None:
    rng = np.random.default_rng(0)
    cold, warm = clustered(rng, 200), clustered(rng, 4000)
    exact, found = nearest_warm(cold, warm, 20), nearest_warm(cold, warm, 20, index)
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(exact.ids, found.ids, strict=True)])
    assert recall >= least
    assert (np.diff(found.similarities, axis=1) <= 0).all()


@pytest.mark.parametrize("size", [32, 33])
def test_a_larger_catalogue_is_compressed_and_still_found(size: int) -> None:
    """Above 10,000 items the lists hold codes; the similarities that come back are exact all the same."""
    rng = np.random.default_rng(0)
    cold, warm = clustered(rng, 100, 400, size), clustered(rng, 10_500, 400, size)
    exact, found = nearest_warm(cold, warm, 20), nearest_warm(cold, warm, 20, Index(kind="ivf"))
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(exact.ids, found.ids, strict=True)])
    assert recall >= 0.9
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (cold, warm)]
    true = np.einsum("nd,nkd->nk", unit[0], unit[1][found.ids])
    assert found.similarities == pytest.approx(true, abs=1e-5)


def test_lists_with_too_few_items_are_completed() -> None:
    rng = np.random.default_rng(0)
    cold, warm = clustered(rng, 30), clustered(rng, 400)
    found = nearest_warm(cold, warm, 390, Index(kind="ivf", lists=20, probes=1))
    exact = nearest_warm(cold, warm, 390)
    assert np.array_equal(found.ids, exact.ids)


def test_ivf_is_the_same_on_every_run() -> None:
    rng = np.random.default_rng(0)
    cold, warm = clustered(rng, 100), clustered(rng, 2000)
    first, second = (nearest_warm(cold, warm, 10, Index(kind="ivf", probes=2)) for _ in range(2))
    assert np.array_equal(first.ids, second.ids)


def test_torch_and_half_precision_are_searched_like_numpy() -> None:
    rng = np.random.default_rng(0)
    cold, warm = clustered(rng, 20), clustered(rng, 100)
    expected = nearest_warm(cold, warm, 5)
    tensors = nearest_warm(torch.from_numpy(cold).requires_grad_(), torch.from_numpy(warm), 5)
    assert np.array_equal(tensors.ids, expected.ids)
    half = nearest_warm(torch.from_numpy(cold).bfloat16(), torch.from_numpy(warm).bfloat16(), 5)
    assert half.similarities == pytest.approx(expected.similarities, abs=0.01)


def test_k_above_the_warm_items_is_clamped_with_a_warning() -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.warns(UserWarning, match="k = 7 is above the number of warm items; 3 neighbours"):
        found = nearest_warm(rows, rows, 7)
    assert found.k == 3


def test_no_cold_items_give_empty_arrays() -> None:
    found = nearest_warm(np.empty((0, 3), np.float32), np.eye(3, dtype=np.float32), 2)
    assert found.ids.shape == (0, 2)


def test_bad_input_is_named() -> None:
    rows = np.eye(3, dtype=np.float32)
    broken = rows.copy()
    broken[1, 2] = np.nan
    with pytest.raises(UserError, match="cold: row 1 holds NaN"):
        nearest_warm(broken, rows, 1)
    with pytest.raises(UserError, match="warm: row 1 holds NaN"):
        nearest_warm(rows, broken, 1)
    with pytest.raises(UserError, match="warm: has no rows"):
        nearest_warm(rows, rows[:0], 1)
    with pytest.raises(UserError, match="cold: has 3 columns and warm 2"):
        nearest_warm(rows, rows[:, :2], 1)
    with pytest.raises(UserError, match=r"cold: has shape \[3\]"):
        nearest_warm(rows[0], rows, 1)
    with pytest.raises(UserError, match="k: is 0"):
        nearest_warm(rows, rows, 0)
    with pytest.raises(UserError, match="search again with k=3"):
        nearest_warm(rows, rows, 2).first(3)
