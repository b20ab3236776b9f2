import numpy as np
import pytest

from coldray.evaluation import ndcg, recall, summarise


def test_metrics_by_hand() -> None:
    ranks = np.array([1, 3, 10, 11, 0], np.int32)
    assert ndcg(ranks).tolist() == pytest.approx([1, 0.5, 1 / np.log2(11), 0, 0])
    assert recall(ranks).tolist() == [1, 1, 1, 0, 0]
    assert recall(ranks, 3).tolist() == [1, 1, 0, 0, 0]


def test_the_total_is_the_count_weighted_mean_of_cold_and_warm() -> None:
    random = np.random.default_rng(0)
    ranks, cold = random.integers(0, 20, 100).astype(np.int32), random.random(100) < 0.3
    means = summarise(ranks, cold)
    for name in ("NDCG@10", "Recall@10"):
        weighted = cold.mean() * means[f"cold_{name}"] + (1 - cold.mean()) * means[f"warm_{name}"]
        assert means[name] == pytest.approx(weighted)


def test_no_cold_target_gives_nan_and_no_number() -> None:
    means = summarise(np.array([1], np.int32), np.array([False]))
    assert np.isnan(means["cold_NDCG@10"])
    assert means["NDCG@10"] == means["warm_NDCG@10"] == 1
