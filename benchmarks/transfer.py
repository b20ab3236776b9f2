"""Time, memory and recall of residual transfer at the size of a large catalogue.

    python benchmarks/transfer.py                                 one million cold against one million warm items
    python benchmarks/transfer.py --cold 100000 --warm 100000     a first impression

The vectors are made up, and clustered as catalogues are: topics, clusters within a topic, items within a cluster.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
import numpy.typing as npt

from coldray.transfer import Index, TransferSettings, nearest_warm, propagate
from coldray.transfer.neighbors import WarmIndex

Float32 = npt.NDArray[np.float32]

_BLOCK = 65536
_SAMPLE = 1000


def clustered(number: int, centres: Float32, seed: int) -> Float32:
    """Return `number` unit vectors, [number, d] float32, each near one of `centres` [c, d] (cosine about 0.9)."""
    rng = np.random.default_rng(seed)
    size = centres.shape[1]
    rows = np.empty((number, size), np.float32)
    for start in range(0, number, _BLOCK):
        block = rows[start : start + _BLOCK]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= 0.5 / np.sqrt(size)
        block += centres[rng.integers(len(centres), size=len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def cluster_centres(clusters: int, topics: int, size: int) -> Float32:
    """Return unit vectors [clusters, size]: each a topic's centre and a deviation 0.7 times as large."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((topics, size), dtype=np.float32)[rng.integers(topics, size=clusters)]
    centres += 0.7 * rng.standard_normal((clusters, size), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres


@contextmanager
def timed(rows: dict[str, str], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    rows[name] = f"{time.perf_counter() - start:.1f} s"
    print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cold", type=int, default=1_000_000, help="cold items")
    parser.add_argument("--warm", type=int, default=1_000_000, help="warm items")
    parser.add_argument("--size", type=int, default=128, help="numbers in a vector")
    parser.add_argument("--k", type=int, default=100, help="neighbours of an item")
    parser.add_argument("--clusters", type=int, default=20_000)
    parser.add_argument("--topics", type=int, default=500)
    parser.add_argument("--index", choices=["exact", "ivf", "hnsw"], default="ivf")
    parser.add_argument("--lists", type=int, help="of ivf; by default as the index chooses")
    parser.add_argument("--probes", type=int, help="of ivf; by default as the index chooses")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    faiss.omp_set_num_threads(args.threads)
    centres = cluster_centres(args.clusters, args.topics, args.size)
    cold, warm = clustered(args.cold, centres, 1), clustered(args.warm, centres, 2)
    residuals = np.random.default_rng(3).standard_normal((args.warm, args.size), dtype=np.float32)
    residuals *= 0.5 / np.sqrt(args.size)
    index = Index(kind=args.index, lists=args.lists, probes=args.probes)
    rows = {"cold x warm x d, K": f"{args.cold} x {args.warm} x {args.size}, {args.k}", "index": args.index}
    begin = time.perf_counter()
    with timed(rows, "build"):
        searcher = WarmIndex(warm, args.k, index)
    with timed(rows, "search"):
        found = searcher.nearest(cold)
    del searcher
    with timed(rows, "aggregation"):
        made = propagate(cold, warm, residuals, TransferSettings(k=args.k, max_norm=0.5), neighbors=found)
    rows["total"] = f"{time.perf_counter() - begin:.1f} s"
    # Kilobytes on Linux. Read before the exact search below, which is no part of what is measured.
    rows["peak memory"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GiB"
    sample = np.random.default_rng(4).permutation(args.cold)[:_SAMPLE]
    exact = nearest_warm(cold[sample], warm, args.k)
    shares = [np.isin(a, b).mean() for a, b in zip(exact.ids, found.ids[sample], strict=True)]
    rows[f"recall@{args.k}, {len(sample)} items"] = f"{np.mean(shares):.4f}"
    rows["open gates (> 0.5)"] = f"{(made.gate > 0.5).mean():.3f}"
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"| {name:<{width}} | {value:>32} |")


if __name__ == "__main__":
    main()
