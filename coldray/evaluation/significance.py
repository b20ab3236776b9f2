"""Is a difference between two recommenders more than chance? Paired by user: arrays in, numbers out.

Each user gives one difference: the metric of one method minus that of the other, each first averaged over the
seeds, so that a user counts once however many seeds there are.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Float = npt.NDArray[np.float64]

_CHUNK = 60_000
"""numbers held at a time: what fits in a core's cache is several times as fast"""


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: Float, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean of `differences` [n] and its percentile bootstrap interval; all NaN when n = 0.

    Users are drawn with replacement, so the interval says how much the mean hangs on who was tested.
    """
    column = np.asarray(differences, dtype=np.float64)[:, None]
    return paired_bootstraps(column, confidence=confidence, resamples=resamples, seed=seed)[0]


def paired_bootstraps(
    differences: Float, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """Return `paired_bootstrap` of each column of `differences` [n, m]: one draw of users serves all."""
    users, columns = differences.shape
    if not users:
        return [Interval(np.nan, np.nan, np.nan)] * columns
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, columns))
    step = max(1, _CHUNK // users)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(users, size=(rows, users), dtype=np.min_scalar_type(users - 1))
        cells = drawn + np.arange(rows)[:, None] * users
        times = np.bincount(cells.ravel(), minlength=rows * users).reshape(rows, users)
        means[start : start + rows] = times.astype(np.float64) @ differences / users
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    centre = differences.mean(axis=0)
    return [Interval(float(centre[j]), float(low[j]), float(high[j])) for j in range(columns)]


def paired_test(differences: Float, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p value of "the mean of `differences` [n] is zero": a sign-flip permutation test.

    Under the hypothesis each user's difference is as likely to have the other sign. The test asks how often
    random signs give a mean at least as far from zero. It is chosen because it tests the very mean that is
    reported, and holds for the many zeros and few values that top-10 metrics have: a zero has no sign and
    changes nothing. Wilcoxon's test would drop the zeros and rank the rest, answering another question; the
    t test assumes a mean that is close to normal, which a few hundred cold users with ten hits do not give.

    With at most 13 non-zero differences every sign is tried and p is exact; else `resamples` random ones, and
    p is at least 1 / (resamples + 1). 1.0 when all differences are zero, NaN when n = 0.
    """
    column = np.asarray(differences, dtype=np.float64)[:, None]
    return float(paired_tests(column, resamples=resamples, seed=seed)[0])


def paired_tests(differences: Float, *, resamples: int = 10_000, seed: int = 0) -> Float:
    """Return [m] `paired_test` of each column of `differences` [n, m]: one draw of signs serves all."""
    if not len(differences):
        return np.full(differences.shape[1], np.nan)
    differences = differences[(differences != 0).any(axis=1)]
    total = differences.sum(axis=0)
    bound = np.abs(total) - 1e-9 * np.abs(differences).sum(axis=0)  # equal up to rounding counts as equal
    users = len(differences)
    if users <= 13:
        kept = (np.arange(2**users)[:, None] >> np.arange(users) & 1).astype(np.float64)
        exact: Float = np.mean(np.abs(2 * kept @ differences - total) >= bound, axis=0)
        return exact
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // users)
    extreme = np.zeros(differences.shape[1])
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        packed = generator.integers(256, size=(rows, (users + 7) // 8), dtype=np.uint8)
        kept = np.unpackbits(packed, axis=1, count=users).astype(np.float64)  # whose sign is kept: 1
        extreme += np.sum(np.abs(2 * kept @ differences - total) >= bound, axis=0)
    p_values: Float = (extreme + 1) / (resamples + 1)
    return p_values


def seed_test(ours: Float, theirs: Float) -> float:
    """Return the two-sided p value of the paired t test over seeds: `ours`, `theirs` [seeds], in one order.

    It asks what the test over users cannot: whether training again would give the difference again. NaN with
    fewer than two seeds, and when the difference is the same for every seed.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if len(differences) < 2 or np.ptp(differences) == 0:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Float) -> Float:
    """Return [m] the p values [m] adjusted by Holm for m comparisons; a NaN stays one and is not counted."""
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int(np.sum(~np.isnan(p_values)))]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted
