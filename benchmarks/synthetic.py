"""Make a data set whose content says everything, something or nothing about what users do with its items.

    python benchmarks/synthetic.py --alignment 1.0 --out data/raw/aligned

writes interactions.parquet (user_id, item_id, position) and vectors.parquet (item_id, embedding). Items are points around
topics; a user walks from an item to one near it. The vector of an aligned item is its point with a little noise, that of
the others is a point drawn anew: `--alignment` is the share of the former.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM, TOPICS = 64, 60


def points(number: int, random: np.random.Generator) -> np.ndarray:
    """Return [number, DIM] unit vectors around topics."""
    topics = random.normal(size=(TOPICS, DIM))
    made = topics[random.integers(TOPICS, size=number)] + 0.6 * random.normal(size=(number, DIM))
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def walks(items: np.ndarray, users: int, length: float, random: np.random.Generator) -> list[np.ndarray]:
    """Return for each user distinct items, each drawn from those near the one before it, popular ones more often."""
    popularity = random.pareto(1.2, len(items)) + 1
    near = items @ items.T
    found = []
    for _ in range(users):
        walk = [int(random.choice(len(items), p=popularity / popularity.sum()))]
        for _ in range(3 + random.poisson(length)):
            weights = popularity * np.exp(12 * near[walk[-1]])
            weights[walk] = 0
            walk.append(int(random.choice(len(items), p=weights / weights.sum())))
        found.append(np.array(walk))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--alignment", type=float, required=True, help="share of the items whose vector is their own"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=6000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--length", type=float, default=6.0, help="mean number of items of a user above four")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    items = points(args.items, random)
    sequences = walks(items, args.users, args.length, random)
    aligned = random.random(args.items) < args.alignment
    content = np.where(aligned[:, None], items, points(args.items, random))
    content = content + 0.02 * random.normal(size=content.shape)
    ids = np.array([f"i{i:05d}" for i in range(args.items)])
    table = {
        "user_id": np.repeat([f"u{u:05d}" for u in range(args.users)], [len(s) for s in sequences]),
        "item_id": ids[np.concatenate(sequences)],
        "position": np.concatenate([np.arange(len(s)) for s in sequences]),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), args.out / "interactions.parquet")
    vectors = {"item_id": ids, "embedding": list(content.astype(np.float32))}
    pq.write_table(pa.table(vectors), args.out / "vectors.parquet")
    print(f"{args.out}: {args.users} users, {args.items} items, {aligned.sum()} of them aligned")


if __name__ == "__main__":
    main()
