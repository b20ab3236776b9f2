"""The tables against an independent computation from the same ranks."""

import math

import numpy as np
import pytest
from scipy import stats

from coldray.sweep import artifacts as a
from coldray.sweep.aggregate import aggregate, popularity_buckets, similarity_buckets
from coldray.sweep.validate import CellResult


@pytest.fixture
def results_of(make_sweep):
    """Return a function from a made-up sweep to its specification and results, without a server."""

    def build(**settings):
        made = make_sweep(**settings)
        spec = a.SweepSpec.model_validate(made.sweep)
        users = a.TestUsers(
            made.evaluation(made.sweep["cells"][0]).users, made.targets, made.cold, made.train_counts
        )
        results = []
        for position, (cell, raw) in enumerate(zip(spec.cells, made.sweep["cells"], strict=True)):
            evaluation = made.evaluation(raw)
            values = {}
            for protocol in a.PROTOCOLS:
                ranks = getattr(evaluation, protocol.column)
                chosen = {metric: a.metric_users(metric, made.cold) for metric in a.METRICS}
                values[protocol] = {
                    metric: a.user_gains(ranks[members], metric).mean() if members.any() else math.nan
                    for metric, members in chosen.items()
                }
            parts = np.linspace(0, 1, 11, dtype=np.float32)
            items = np.unique(made.targets[made.cold])[:11].astype(np.int32)
            gates = a.ColdItems(items, parts[: len(items)], parts[: len(items)]) if cell.transfer else None
            run_id = f"{position:032x}"
            results.append(CellResult(run_id, cell, values, evaluation.rank_all_kept, users, gates, 1.0))
        return spec, results

    return build


def test_means_and_deviations_over_seeds(results_of):
    spec, results = results_of(seeds=(1, 2, 3), ks=(10, 25))
    tables = aggregate(spec, results)
    assert [row.label for row in tables.rows] == [
        "delta",
        "delta+knn+gate K=10",
        "delta+knn+gate K=25",
        "history-average",
    ]
    assert tables.baseline is tables.rows[0]
    for row in tables.rows:
        for protocol in a.PROTOCOLS:
            for metric in a.METRICS:
                own = [r for r in results if (r.cell.method, r.cell.k) == (row.method, row.k)]
                values = np.array([r.values[protocol][metric] for r in own])
                assert row.values[protocol][metric].mean == pytest.approx(values.sum() / 3)
                deviation = math.sqrt(((values - values.mean()) ** 2).sum() / 2)
                assert row.values[protocol][metric].std == pytest.approx(deviation)
        assert len(row.run_ids) == 3


def test_differences_are_paired_by_user_and_by_seed(results_of):
    spec, results = results_of(seeds=(1, 2, 3), ks=(10,), users=120)
    tables = aggregate(spec, results)
    cold = results[0].test.cold

    def gains(method):
        own = [r for r in results if r.cell.method == method]
        ranks = np.stack([r.ranks for r in own])[:, cold]
        return np.where((ranks > 0) & (ranks <= 10), 1 / np.log2(ranks + 1), 0)

    ours, theirs = gains("delta+knn+gate"), gains("delta")
    differences = (ours - theirs).mean(axis=0)
    found = tables.difference(tables.rows[1], "cold_NDCG@10")
    assert found.interval.mean == pytest.approx(differences.mean())
    assert found.relative == pytest.approx(differences.mean() / theirs.mean())
    assert found.p_seeds == pytest.approx(stats.ttest_rel(ours.mean(axis=1), theirs.mean(axis=1)).pvalue)
    assert found.seeds_higher == (ours.mean(axis=1) > theirs.mean(axis=1)).sum()
    low, high = stats.bootstrap((differences,), np.mean, method="percentile", rng=1).confidence_interval
    assert found.interval.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.interval.high == pytest.approx(high, abs=0.1 * (high - low))


def test_p_values_are_adjusted_over_the_whole_table(results_of):
    tables = aggregate(*results_of(seeds=(1, 2), ks=(10, 25)))
    p_values = np.array([item.p for item in tables.differences])
    assert len(p_values) == 3 * 4
    smallest = int(np.argmin(p_values))
    assert tables.differences[smallest].p_holm == pytest.approx(min(1.0, 12 * p_values[smallest]))


def test_a_comparison_tests_what_cold_targets_say_and_keeps_its_order(results_of):
    spec, results = results_of(seeds=(1, 2), ks=(25, 10))
    data = spec.dataset.model_copy(update={"cold_users": 9})
    tables = aggregate(spec.model_copy(update={"dataset": data}), results)
    assert {difference.metric for difference in tables.differences} == {"cold_NDCG@10", "cold_Recall@10"}
    assert [row.label for row in tables.rows] == list(dict.fromkeys(cell.variant for cell in spec.cells))


def test_a_seed_that_only_one_of_two_has_is_not_compared(results_of):
    spec, results = results_of(seeds=(1, 2, 3), ks=(10,))
    kept = [r for r in results if not (r.cell.method == "delta" and r.cell.seed == 3)]
    tables = aggregate(spec, kept)
    assert tables.rows[1].seeds == (1, 2, 3)
    assert tables.difference(tables.rows[1], "NDCG@10").seeds == 2


@pytest.mark.parametrize("left", ["no baseline", "nothing", "no common seed", "baseline only"])
def test_what_is_missing_is_left_empty(results_of, left):
    spec, results = results_of(seeds=(1, 2), ks=(10,))
    keep = {
        "no baseline": lambda r: r.cell.method != "delta",
        "nothing": lambda r: False,
        "no common seed": lambda r: (r.cell.method == "delta") == (r.cell.seed == 1),
        "baseline only": lambda r: r.cell.method == "delta",
    }[left]
    tables = aggregate(spec, [r for r in results if keep(r)])
    assert tables.differences == ()
    assert tables.gains == ()


def test_one_seed_has_no_deviation(results_of):
    tables = aggregate(*results_of(seeds=(1,), ks=(10,)))
    assert math.isnan(tables.rows[1].headline["NDCG@10"].std)
    assert math.isnan(tables.differences[0].p_seeds)


def test_every_user_is_in_one_bucket(results_of):
    _, results = results_of(seeds=(1,), ks=(10,), users=500)
    buckets = popularity_buckets(results[0].test)
    assert buckets[0][0] == "cold"
    assert np.sum([members for _, members in buckets], axis=0).tolist() == [1] * 500
    sizes = [int(members.sum()) for _, members in buckets[1:]]
    assert len(sizes) == 4
    assert max(sizes) < 1.5 * min(sizes)


def test_equal_counts_make_one_bucket(results_of):
    _, results = results_of(seeds=(1,), ks=(10,), users=50)
    users = results[0].test
    same = a.TestUsers(users.users, users.targets, users.cold, np.where(users.cold, 0, 7))
    assert [name for name, _ in popularity_buckets(same)] == ["cold", "7"]


def test_cold_targets_are_told_apart_by_similarity(results_of):
    _, results = results_of(seeds=(1,), ks=(10,), users=500)
    test = results[0].test
    wanted = np.unique(test.targets[test.cold])
    near = np.linspace(0.2, 0.8, len(wanted)).astype(np.float32)
    backwards = np.argsort(-wanted)  # the order of the rows does not matter
    items = a.ColdItems(wanted[backwards], near[backwards], near[backwards])
    buckets = similarity_buckets(test, items)
    assert len(buckets) == 3
    assert buckets[0][0].startswith("cold, cosine 0.20–")
    assert np.sum([members for _, members in buckets], axis=0).tolist() == test.cold.astype(int).tolist()
    of = np.where(
        test.cold, near[np.searchsorted(wanted, np.where(test.cold, test.targets, wanted[0]))], np.nan
    )
    assert of[buckets[0][1]].max() <= of[buckets[1][1]].min() <= of[buckets[2][1]].min()
    unknown = a.ColdItems(wanted[:0], near[:0], near[:0])
    assert similarity_buckets(test, None) == similarity_buckets(test, unknown) == []
