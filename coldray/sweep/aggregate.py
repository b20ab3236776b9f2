"""From checked results to tables: means over seeds, differences to the baseline, gains by popularity and similarity."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coldray.evaluation.significance import Interval, holm, paired_bootstraps, paired_tests, seed_test
from coldray.sweep import artifacts as a
from coldray.sweep.methods import WALKING
from coldray.sweep.validate import CellResult

HEADLINE_METRIC = "cold_NDCG@10"
COMPARED = ("cold_NDCG@10", "cold_Recall@10", "warm_NDCG@10", "NDCG@10")
"""metrics whose difference to the baseline is tested; of a comparison, whose users are all cold, the first two"""
BUCKET_METRIC = "NDCG@10"
WARM_BUCKETS, COLD_BUCKETS = 4, 3
SIGNIFICANT = 0.05

Pairs = list[tuple[CellResult, CellResult]]
"""a variant's results and the baseline's, seed by seed"""


@dataclass(frozen=True)
class Statistic:
    """A metric over seeds."""

    mean: float
    std: float
    """with n - 1; NaN for one seed"""
    values: tuple[float, ...]
    """per seed"""


@dataclass(frozen=True)
class Row:
    """A method with its neighbourhood size, over seeds."""

    method: str
    k: int | None
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]
    """per seed"""
    values: Mapping[a.Protocol, Mapping[str, Statistic]]
    gates: tuple[a.Float, ...]
    """per seed, the gates of the cold items; empty without transfer"""
    selections: tuple[a.SelectionSpec, ...] = ()
    """per seed, how the transfer was chosen; empty where it was not"""

    @property
    def label(self) -> str:
        """What the tables call it."""
        return a.variant_label(self.method, self.k)

    @property
    def headline(self) -> Mapping[str, Statistic]:
        """The metrics in the headline setting."""
        return self.values[a.HEADLINE]


@dataclass(frozen=True)
class Difference:
    """A row's metric minus the baseline's, in the headline setting, over the seeds that both have."""

    label: str
    metric: str
    interval: Interval
    """mean over users and its 95% bootstrap interval"""
    relative: float
    """to the baseline; NaN where that is 0"""
    p: float
    """sign-flip test over users"""
    p_holm: float
    """the same, adjusted for all differences of the table"""
    p_seeds: float
    """paired t test over seeds; NaN for fewer than two"""
    seeds: int
    seeds_higher: int

    @property
    def significant(self) -> bool:
        """Whether the adjusted p value is below 0.05."""
        return self.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class Gain:
    """The difference to the baseline for targets of one popularity, or one similarity to warm items."""

    label: str
    bucket: str
    users: int
    interval: Interval


@dataclass(frozen=True)
class Tables:
    """Everything that a report says in numbers."""

    rows: tuple[Row, ...]
    baseline: Row | None
    differences: tuple[Difference, ...]
    """empty without a baseline"""
    gains: tuple[Gain, ...]
    counts: Mapping[str, int]
    """users, cold_users, warm_users"""

    def difference(self, row: Row, metric: str) -> Difference | None:
        """Return the difference of a row's metric to the baseline, if there is one."""
        found = (item for item in self.differences if (item.label, item.metric) == (row.label, metric))
        return next(found, None)


def aggregate(spec: a.SweepSpec, results: Sequence[CellResult]) -> Tables:
    """Return the tables of `results`, which `coldray.sweep.validate.validate` let through, in their order."""
    variants: dict[str, list[CellResult]] = {}
    for result in results:
        if not result.cell.varied:  # an analysis has tables of its own
            variants.setdefault(result.cell.variant, []).append(result)
    groups = [sorted(group, key=lambda result: result.cell.seed) for group in variants.values()]
    groups.sort(key=lambda group: _position(group[0].cell, spec))
    rows = tuple(_row(group, spec) for group in groups)
    first = _baseline(spec, rows)
    if first is None:
        return Tables(rows, None, (), (), _counts(results))
    others = [group for i, group in enumerate(groups) if i != first]
    pairs = [pair for pair in (_paired(group, groups[first]) for group in others) if pair]
    if not pairs:
        return Tables(rows, rows[first], (), (), _counts(results))
    compared = COMPARED if spec.dataset.cold_users is None else COMPARED[:2]
    differences = [item for metric in compared for item in _differences(pairs, metric)]
    return Tables(rows, rows[first], tuple(_adjusted(differences)), tuple(_gains(pairs)), _counts(results))


def _position(cell: a.CellSpec, spec: a.SweepSpec) -> tuple[bool, str, int]:
    """Return a key that orders the baseline first, then transfer by K, then what has no K; of a comparison the cells' order."""
    if spec.dataset.cold_users is not None:
        return (False, "", [other.cell_id for other in spec.cells].index(cell.cell_id))
    return (
        cell.method != spec.baseline and cell.k is None,
        "" if cell.k is None else cell.method,
        cell.k or 0,
    )


def _baseline(spec: a.SweepSpec, rows: Sequence[Row]) -> int | None:
    """Return which row the others are compared with: the baseline, or the best that is not ColdRAG."""
    if spec.baseline != "best":
        return next((i for i, row in enumerate(rows) if row.method == spec.baseline), None)
    others = [i for i, row in enumerate(rows) if row.method not in WALKING]
    return max(others, key=lambda i: rows[i].headline[HEADLINE_METRIC].mean, default=None)


def _counts(results: Sequence[CellResult]) -> dict[str, int]:
    if not results:
        return dict.fromkeys(a.COUNTS, 0)
    cold = results[0].test.cold
    return {"users": len(cold), "cold_users": int(cold.sum()), "warm_users": int((~cold).sum())}


def _row(group: Sequence[CellResult], spec: a.SweepSpec) -> Row:
    """Return the statistics of one variant's results, one a seed."""
    values = {
        protocol: {name: statistic([result.values[protocol][name] for result in group]) for name in a.METRICS}
        for protocol in spec.protocols
    }
    cell = group[0].cell
    return Row(
        method=cell.method,
        k=cell.k,
        seeds=tuple(result.cell.seed for result in group),
        run_ids=tuple(result.run_id for result in group),
        values=values,
        gates=tuple(
            result.cold_items.gates.astype(np.float64) for result in group if result.cold_items is not None
        ),
        selections=tuple(result.selection for result in group if result.selection is not None),
    )


def statistic(values: Sequence[float]) -> Statistic:
    """Return mean and standard deviation (n - 1) of one value a seed."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Statistic(float(np.mean(values)), std, tuple(values))


def _paired(group: Sequence[CellResult], baseline: Sequence[CellResult]) -> Pairs:
    """Return the results of the seeds that both have, seed by seed."""
    theirs = {result.cell.seed: result for result in baseline}
    return [(result, theirs[result.cell.seed]) for result in group if result.cell.seed in theirs]


def _label(pairs: Pairs) -> str:
    return a.variant_label(pairs[0][0].cell.method, pairs[0][0].cell.k)


def _user_differences(variants: Sequence[Pairs], metric: str) -> a.Float:
    """Return [n, variants] a user's metric less that with the baseline, averaged over seeds."""
    columns = []
    for pairs in variants:
        ours, theirs = (sum(a.user_gains(pair[i].ranks, metric) for pair in pairs) for i in (0, 1))
        columns.append((ours - theirs) / len(pairs))
    return np.column_stack(columns)


def _differences(variants: Sequence[Pairs], metric: str) -> list[Difference]:
    """Return a metric's entries of the table of differences, their p values not adjusted yet."""
    users = _user_differences(variants, metric)[a.metric_users(metric, variants[0][0][0].test.cold)]
    found = []
    for pairs, interval, p in zip(variants, paired_bootstraps(users), paired_tests(users), strict=True):
        ours, theirs = (np.array([pair[i].values[a.HEADLINE][metric] for pair in pairs]) for i in (0, 1))
        found.append(
            Difference(
                label=_label(pairs),
                metric=metric,
                interval=interval,
                relative=float(interval.mean / theirs.mean()) if theirs.mean() else float("nan"),
                p=float(p),
                p_holm=float("nan"),
                p_seeds=seed_test(ours, theirs),
                seeds=len(pairs),
                seeds_higher=int(np.sum(ours > theirs)),
            )
        )
    return found


def _adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with their p values adjusted for being that many."""
    adjusted = holm(np.array([difference.p for difference in differences]))
    return [replace(item, p_holm=float(p)) for item, p in zip(differences, adjusted, strict=True)]


def _gains(variants: Sequence[Pairs]) -> list[Gain]:
    """Return the differences to the baseline per bucket of targets."""
    users = _user_differences(variants, BUCKET_METRIC)
    test = variants[0][0][0].test
    made = (pair[0].cold_items for pairs in variants for pair in pairs)
    first = next((items for items in made if items is not None), None)
    buckets = [*similarity_buckets(test, first), *popularity_buckets(test)]
    return [
        Gain(_label(pairs), name, int(members.sum()), interval)
        for name, members in buckets
        for pairs, interval in zip(variants, paired_bootstraps(users[members]), strict=True)
    ]


def similarity_buckets(
    test: a.TestUsers, items: a.ColdItems | None
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return names of cosines and [n] which users have a cold target with such a nearest warm item.

    Up to three parts of about as many users; none without transfer. A target of which nothing is said is in no part.
    """
    if items is None or not len(items.items):
        return []
    order = np.argsort(items.items)
    place = np.minimum(np.searchsorted(items.items[order], test.targets), len(order) - 1)
    known = test.cold & (items.items[order][place] == test.targets)
    near = np.where(known, items.similarities[order][place], np.nan)
    if not known.any():
        return []
    edges = np.unique(np.quantile(near[known], np.linspace(0, 1, COLD_BUCKETS + 1), method="higher"))
    if len(edges) == 1:
        return []
    return [
        (
            f"cold, cosine {low:.2f}–{high:.2f}",
            known & (near <= high) & ((near > low) if i else (near >= low)),
        )
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def popularity_buckets(test: a.TestUsers) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return names of popularities and [n] which users have a target of it.

    Cold targets, then the warm ones in up to four parts of about as many users; equal counts stay together.
    """
    buckets = [("cold", test.cold)] if test.cold.any() else []
    counts = test.train_counts[~test.cold]
    if not len(counts):
        return buckets
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, WARM_BUCKETS + 1), method="higher"))
    if len(edges) == 1:
        return [*buckets, (f"{edges[0]}", ~test.cold)]
    for i in range(len(edges) - 1):
        low = edges[i] + (i > 0)
        members = ~test.cold & (test.train_counts >= low) & (test.train_counts <= edges[i + 1])
        buckets.append((f"{low}" if low == edges[i + 1] else f"{low}–{edges[i + 1]}", members))
    return buckets
