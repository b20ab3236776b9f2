"""Reduction: what it learns, from whom, and what it leaves alone."""

import numpy as np
import numpy.typing as npt
import pytest

from coldray.encode.reduce import fit_reducer, item_vectors
from coldray.errors import UserError

Float32 = npt.NDArray[np.float32]


def raw(number: int, size: int = 10, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(size, size)) * np.linspace(3, 0.2, size)
    return (rng.normal(size=(number, size)) @ mixing + rng.normal(size=size)).astype(np.float32)


def test_equals_scaling_and_svd_written_out() -> None:
    warm, cold = raw(60), raw(5, seed=1)
    mean, deviation = warm.mean(axis=0, dtype=np.float64), warm.std(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd((warm - mean) / deviation, full_matrices=False)
    expected = ((cold - mean) / deviation) @ directions[:4].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    made = fit_reducer(warm, 4).apply(cold)
    assert made.dtype == np.float32
    assert np.abs(made) == pytest.approx(np.abs(expected), abs=1e-5)
    assert np.linalg.norm(made, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_deterministic_with_signs() -> None:
    warm = raw(60)
    assert np.array_equal(fit_reducer(warm, 4).apply(warm), fit_reducer(warm.copy(), 4).apply(warm))


def test_same_size_is_only_normalised() -> None:
    warm = raw(3)
    made = fit_reducer(warm, 10).apply(warm)
    assert made == pytest.approx(warm / np.linalg.norm(warm, axis=1, keepdims=True), abs=1e-6)


def test_zero_rows_stay_zero_and_teach_nothing() -> None:
    warm = raw(40)
    padded = np.concatenate([warm, np.zeros((40, 10), np.float32)])
    made = fit_reducer(padded, 4).apply(padded)
    assert not made[40:].any()
    assert np.array_equal(made[:40], fit_reducer(warm, 4).apply(warm))
    assert not fit_reducer(padded, 10).apply(padded)[40:].any()


def test_constant_columns_are_survived() -> None:
    warm = raw(40)
    warm[:, 3] = 7
    assert np.isfinite(fit_reducer(warm, 4).apply(warm)).all()


def test_impossible_sizes_say_what_to_do() -> None:
    with pytest.raises(UserError, match="d: 11 is above the 10 columns"):
        fit_reducer(raw(40), 11)
    with pytest.raises(UserError, match="d: 8 is above the 5 warm items"):
        fit_reducer(raw(5), 8)
    with pytest.raises(UserError, match="embedding: has 9 columns; the reduction was fitted on 10"):
        fit_reducer(raw(40), 4).apply(raw(2, size=9))


def test_item_vectors_learn_on_warm_items_only() -> None:
    embedding = np.vstack([np.zeros((1, 10), np.float32), raw(50)])
    made = item_vectors(embedding, 30, 4)
    assert made.shape == (51, 4)
    assert not made[0].any()
    assert np.array_equal(made[1:], fit_reducer(embedding[1:31], 4).apply(embedding[1:]))
