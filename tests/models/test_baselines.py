import numpy as np
import torch

from coldray.evaluation import evaluate, summarise
from coldray.models.baselines import HistoryAverage, ItemKNN, Popularity


def score(scorer, histories, lengths):
    return scorer.scores(scorer.encode(histories, lengths))


def test_popularity_is_the_same_for_everybody() -> None:
    popular = Popularity(np.array([0, 5, 2, 9]))
    scores = score(popular, torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 3]))
    assert scores.tolist() == [[0, 5, 2, 9], [0, 5, 2, 9]]


def test_history_average_by_hand() -> None:
    content = np.array([[0, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    scores = score(
        HistoryAverage(torch.from_numpy(content)), torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.tensor([2, 1])
    )
    torch.testing.assert_close(scores[0], torch.tensor([0, 0.5, 0.5, 0.7]))
    torch.testing.assert_close(scores[1], torch.tensor([0, 0.6, 0.8, 1.0]))


def test_item_knn_agrees_with_dense_cosines(tiny_split) -> None:
    n, train = tiny_split.num_items, tiny_split.train
    dense = np.zeros((len(train), n + 1))
    for i in range(len(train)):
        dense[i, train.items[train.offsets[i] : train.offsets[i + 1]]] = 1
    norms = np.maximum(np.linalg.norm(dense, axis=0), 1)
    cosines = dense.T @ dense / np.outer(norms, norms)
    np.fill_diagonal(cosines, 0)
    histories = torch.tensor([[1, 2, 0], [11, 12, 13]])
    expected = np.stack([cosines[[1, 2]].sum(axis=0), cosines[[11, 12, 13]].sum(axis=0)])
    scores = score(ItemKNN.of_users(train, n, k=n), histories, torch.tensor([2, 3])).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    few = score(ItemKNN.of_users(train, n, k=3), torch.tensor([[1]]), torch.tensor([1])).numpy()[0]
    assert (few > 0).sum() == 3
    assert few[few > 0].min() >= np.sort(cosines[1])[-3] - 1e-6


def test_methods_that_know_the_groups_beat_popularity(tiny_split, tiny_content) -> None:
    def ndcg(scorer):
        result = evaluate(scorer, tiny_split.test, tiny_split.num_warm)
        return summarise(result.rank_all_kept, result.cold)

    popular = ndcg(Popularity(tiny_split.train_counts))
    assert popular["cold_NDCG@10"] == 0
    assert (
        ndcg(ItemKNN.of_users(tiny_split.train, tiny_split.num_items))["warm_NDCG@10"]
        > 2 * popular["warm_NDCG@10"]
    )
    assert ndcg(HistoryAverage(torch.from_numpy(tiny_content)))["cold_NDCG@10"] > 0.3
