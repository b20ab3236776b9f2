"""The tests of significance against SciPy, by hand, and where there is nothing to test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from coldray.evaluation.significance import (
    holm,
    paired_bootstrap,
    paired_bootstraps,
    paired_test,
    paired_tests,
    seed_test,
)


def zero_heavy(n: int, share: float, mean: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.where(random.random(n) < share, random.normal(mean, 0.3, n), 0.0)


def test_bootstrap_agrees_with_scipy():
    differences = zero_heavy(400, 0.2, 0.1)
    ours = paired_bootstrap(differences)
    theirs = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    assert ours.mean == pytest.approx(differences.mean())
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


def test_bootstrap_covers_the_true_mean_as_often_as_it_says():
    held = 0
    for seed in range(200):
        interval = paired_bootstrap(zero_heavy(200, 0.5, 0.1, seed), resamples=500, seed=seed)
        held += interval.low <= 0.05 <= interval.high
    assert 180 <= held <= 199


def test_permutation_test_is_exact_for_few_differences():
    differences = np.concatenate([np.zeros(50), np.random.default_rng(3).normal(0.3, 1, 10)])
    exact = stats.permutation_test((differences[50:],), np.mean, permutation_type="samples").pvalue
    assert paired_test(differences) == pytest.approx(exact)


def test_permutation_test_agrees_with_scipy_for_many():
    differences = zero_heavy(500, 0.3, 0.05)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert paired_test(differences) == pytest.approx(theirs.pvalue, abs=0.02)


def test_permutation_test_is_uniform_when_nothing_is_there():
    p_values = [paired_test(zero_heavy(300, 0.2, 0.0, seed), resamples=400, seed=seed) for seed in range(200)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_zeros_change_the_mean_but_not_the_p_value():
    differences = zero_heavy(300, 1.0, 0.02)
    assert paired_test(np.concatenate([differences, np.zeros(1000)])) == paired_test(differences)


@given(st.integers(0, 2**32 - 1))
def test_the_sign_of_the_difference_does_not_matter(seed):
    differences = zero_heavy(40, 0.2, 0.1, seed)
    assert paired_test(differences) == pytest.approx(paired_test(-differences), abs=0.05)


def test_columns_are_as_each_alone():
    differences = np.column_stack([zero_heavy(60, 1.0, 0.1), zero_heavy(60, 1.0, -0.2, 1)])
    assert paired_bootstraps(differences)[1] == pytest.approx(paired_bootstrap(differences[:, 1]))
    assert paired_tests(differences)[1] == paired_test(differences[:, 1])


def test_nothing_to_test():
    assert all(np.isnan(paired_bootstrap(np.zeros(0))))
    assert np.isnan(paired_test(np.zeros(0)))
    assert paired_bootstrap(np.zeros(9)) == (0, 0, 0)
    assert paired_test(np.zeros(9)) == 1.0


def test_seed_test_is_the_paired_t_test():
    ours, theirs = np.array([0.3, 0.32, 0.35, 0.31, 0.36]), np.array([0.28, 0.31, 0.33, 0.31, 0.30])
    assert seed_test(ours, theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert np.isnan(seed_test(ours[:1], theirs[:1]))
    assert np.isnan(seed_test(ours, ours))


def test_holm_by_hand():
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.9]))
    assert adjusted == pytest.approx([0.04, 0.09, np.nan, 0.09, 0.9], nan_ok=True)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    adjusted = holm(np.array(p_values))
    assert np.all(adjusted >= p_values)
    assert np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0)
