"""Is a difference between two recommenders more than chance? Paired by user: arrays in, numbers out.

Each user gives one difference: the metric of one method minus that of the other, each first averaged over the
seeds, so that a user counts once however many seeds there are.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Float = npt.NDArray[np.float64]

_CHUNK = 4_000_000
"""numbers drawn at a time"""


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: Float, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean of `differences` [n] and its percentile bootstrap interval; all NaN when n = 0.

    Users are drawn with replacement. Most differences of a top-10 metric are zero, and a zero adds nothing
    to a sum, so of each resample only the number of non-zero draws, binomial, and those draws themselves
    are drawn: the same distribution for a fraction of the work.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if not len(differences):
        return Interval(np.nan, np.nan, np.nan)
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return Interval(0.0, 0.0, 0.0)
    generator = np.random.default_rng(seed)
    counts = generator.binomial(len(differences), len(nonzero) / len(differences), size=resamples)
    step = max(1, _CHUNK // max(1, len(nonzero)))
    sums = [_draw_sums(nonzero, counts[i : i + step], generator) for i in range(0, resamples, step)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(sums) / len(differences), [tail, 1 - tail])
    return Interval(float(differences.mean()), float(low), float(high))


def _draw_sums(values: Float, counts: npt.NDArray[np.int64], generator: np.random.Generator) -> Float:
    """Return [len(counts)] sums of counts[i] draws from `values` with replacement."""
    drawn = values[generator.integers(len(values), size=int(counts.sum()))]
    running: Float = np.concatenate([[0.0], np.cumsum(drawn)])
    ends = np.cumsum(counts)
    sums: Float = running[ends] - running[ends - counts]
    return sums


def paired_test(differences: Float, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p value of "the mean of `differences` [n] is zero": a sign-flip permutation test.

    Under the hypothesis each user's difference is as likely to have the other sign. The test asks how often
    random signs give a mean at least as far from zero. It is chosen because it tests the very mean that is
    reported, and holds for the many zeros and few values that top-10 metrics have: a zero has no sign and
    changes nothing. Wilcoxon's test would drop the zeros and rank the rest, answering another question; the
    t test assumes a mean that is close to normal, which a few hundred cold users with ten hits do not give.

    With at most 13 non-zero differences every sign is tried and p is exact; else `resamples` random ones,
    and p is at least 1 / (resamples + 1). 1.0 when all differences are zero, NaN when n = 0.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if not len(differences):
        return float("nan")
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    bound = abs(nonzero.sum()) * (1 - 1e-12)  # equal up to rounding counts as equal
    if len(nonzero) <= 13:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero)) & 1)
        return float(np.mean(np.abs(signs @ nonzero) >= bound))
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(nonzero))
    extreme = 0
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        bits = np.unpackbits(
            generator.integers(256, size=(rows, (len(nonzero) + 7) // 8), dtype=np.uint8), axis=1
        )
        flipped = bits[:, : len(nonzero)] @ nonzero  # the sum of those whose sign is kept
        extreme += int(np.sum(np.abs(2 * flipped - nonzero.sum()) >= bound))
    return (extreme + 1) / (resamples + 1)


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
