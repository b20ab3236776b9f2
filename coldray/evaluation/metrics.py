"""Recall@k and NDCG@k for one relevant item a user, in total and by whether that item is cold."""

from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.evaluation.ranking import Evaluation

Ranks = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


def ndcg(ranks: Ranks, k: int = 10) -> Floats:
    """Return each user's NDCG@k: 1 / log2(rank + 1) for ranks 1..k, else 0 (gated residual transfer, eq. 17)."""
    hit = (ranks >= 1) & (ranks <= k)
    return np.where(hit, 1 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)


def recall(ranks: Ranks, k: int = 10) -> Floats:
    """Return each user's Recall@k: 1 for ranks 1..k, else 0 (gated residual transfer, eq. 16)."""
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def summarise(ranks: Ranks, cold: npt.NDArray[np.bool_], k: int = 10) -> dict[str, float]:
    """Return NDCG@k and Recall@k over all users, and, with the prefixes cold_ and warm_, by target.

    A mean over no users is NaN. The total is the mean over users, so the count-weighted mean of the two.
    """
    means = {}
    for prefix, users in (("", np.ones(len(cold), bool)), ("cold_", cold), ("warm_", ~cold)):
        for name, metric in ((f"NDCG@{k}", ndcg), (f"Recall@{k}", recall)):
            values = metric(ranks[users], k)
            means[prefix + name] = float(values.mean()) if len(values) else float("nan")
    return means


def settings_table(evaluation: Evaluation, k: int = 10) -> list[dict[str, Any]]:
    """Return the rows of cold-start-evaluation.csv.gz, the headline setting first."""
    counts = {
        "users": len(evaluation.cold),
        "cold_users": int(evaluation.cold.sum()),
        "warm_users": int((~evaluation.cold).sum()),
    }
    settings = (
        (True, False, evaluation.rank_all_kept),
        (True, True, evaluation.rank_all_removed),
        (False, False, evaluation.rank_warm_kept),
        (False, True, evaluation.rank_warm_removed),
    )
    return [
        {"recommend-cold-items": recommend, "filter-cold-items": filtered}
        | summarise(ranks, evaluation.cold, k)
        | counts
        for recommend, filtered, ranks in settings
    ]
