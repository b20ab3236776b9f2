"""Does the walk find what users took next? Leave-one-out over the items of a graph, with settings beside each other.

    python benchmarks/next_item.py --dataset data/amazon-office

Of each user with at least three items in the graph the last is the target and the others are the history. No model is asked. The
users are few, as a graph that is built on a CPU is small: read the differences with the interval.
"""

import argparse
import asyncio
from collections import defaultdict

import numpy as np
import pyarrow.dataset as ds

from coldray.graph.store import GraphStore
from coldray.retrieval.recommend import Recommender
from coldray.retrieval.settings import RetrievalSettings

SETTINGS = {
    "the walk, filled up with the nearest": {},
    "the walk alone": {"fill": False},
    "the walk alone, two hops": {"fill": False, "hops": 2},
    "the walk alone, the better half of a hop's edges": {"fill": False, "quantile": 0.5},
    "the nearest by description, no walk": {"traversal": False},
}


def users(dataset: str, store: GraphStore) -> list[list[str]]:
    """Return the items of each user that the graph has, oldest first."""
    items = set(store.item_ids(np.flatnonzero(store.is_item)))
    rows = (
        ds.dataset(f"{dataset}/interactions").to_table(columns=["user_id", "item_id", "position"]).to_pylist()
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if row["item_id"] in items:
            found[row["user_id"]][row["item_id"]] = row["position"]
    return [sorted(taken, key=taken.__getitem__) for _, taken in sorted(found.items()) if len(taken) >= 3]


async def ranks(store: GraphStore, histories: list[list[str]], settings: RetrievalSettings) -> np.ndarray:
    """Return the rank of each user's last item, [users]; infinite where it is not among the first ten."""
    made = []
    for *history, target in histories:
        found = await Recommender(store).recommend(history, 10, settings)
        ids = [item.item_id for item in found.items]
        made.append(ids.index(target) + 1 if target in ids else np.inf)
    return np.array(made)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    args = parser.parse_args()
    store = GraphStore.open(f"{args.dataset}/graph")
    store.hold()
    histories = users(args.dataset, store)
    random = np.random.default_rng(0)
    draws = random.integers(0, len(histories), (2000, len(histories)))
    print(f"{len(histories)} users, {int(store.is_item.sum())} items\n")
    print("| | Recall@10 (95%) | NDCG@10 (95%) |\n|---|---:|---:|")
    for name, changes in SETTINGS.items():
        rank = asyncio.run(ranks(store, histories, RetrievalSettings.model_validate(changes)))
        cells = []
        for gain in (np.isfinite(rank).astype(float), 1 / np.log2(rank + 1)):
            low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
            cells.append(f"{gain.mean():.3f} ({low:.3f} to {high:.3f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
