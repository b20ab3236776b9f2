"""How a graph of many items opens, is walked and changed.

    python benchmarks/graph.py --items 10000 100000 1000000 --folder /tmp/graphs

Graphs are made up by the ratios of ColdRAG's: about 8 entities and 15 relations an item. An item mentions itself, entities
that only it has, and hubs that are drawn as 1 / rank, so that the greatest belongs to one item in seven. Vectors have 32
numbers and come from hashes: no model runs. Up to `--applied` items a graph is loaded by `Writer.apply`, 5,000 items at a
time; a larger one is written into the Lance tables directly, with the same columns, indexes and manifest.

Every phase runs in a process of its own, so that peak memory is its own.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from graph_data import Direct, Graph, embed

from coldray.graph.store import GraphStore, writing

BATCH = 5000


def load(folder: str, items: int, applied: int) -> dict[str, float]:
    """Make the graph; return its size."""
    graph = Graph(items)
    if items > applied:
        Direct(folder, graph).write()
    else:
        with writing(folder) as writer:
            for start in range(0, items, BATCH):
                batch = slice(start, min(items, start + BATCH))
                writer.apply(*graph.tables(batch), [], embed, 0.95)
            writer.commit("made up")
    size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return {"bytes": size}


def read(folder: str, items: int, applied: int) -> dict[str, Any]:
    """Open the graph and take hops; return seconds and counts."""
    stores: list[GraphStore] = []
    opened = [timed(lambda: stores.append(GraphStore.open(folder))).tolist()]
    (store,) = stores
    random = np.random.default_rng(2)
    frontiers = [random.choice(len(store.ids), 1000, replace=False) for _ in range(7)]
    return {
        "open": opened[0],
        "hop": median([timed(lambda f=f: store.hop(f)) for f in frontiers]),
        "told": median([timed(lambda f=f: told(store, f)) for f in frontiers]),
        "edges": statistics.median(len(store.hop(f).target) for f in frontiers),
        "entities": store.num_entities,
        "relations": store.num_relations,
        "hub": int(store.degrees.max()),
    }


def told(store: GraphStore, frontier: np.ndarray) -> None:
    hop = store.hop(frontier)
    store.relation_texts(hop.relation)
    store.entities(hop.target)


def change(folder: str, items: int, applied: int) -> dict[str, Any]:
    """Add items one by one, then remove them one by one; return median seconds of each, without the embedding's."""
    graph, spent = Graph(items), np.zeros(2)

    def measured(texts: list[str]) -> np.ndarray:
        made: list[np.ndarray] = []
        spent[:] += timed(lambda: made.append(embed(texts)))
        return made[0]

    def once(tables: list[pa.Table], gone: list[str]) -> None:
        with writing(folder) as writer:
            writer.apply(*tables, gone, measured, 0.95)
            writer.commit()

    def alone(tables: list[pa.Table], gone: list[str]) -> np.ndarray:
        spent[:] = 0
        return timed(lambda: once(tables, gone)) - spent

    new = [graph.tables(slice(place, place + 1), "new ") for place in range(7)]
    added = [alone(tables, []) for tables in new]
    nothing = [table.slice(0, 0) for table in new[0]]
    removed = [alone(nothing, [f"new {place}"]) for place in range(7)]
    return {"add": median(added), "slowest": np.max(added, axis=0).tolist(), "remove": median(removed)}


def timed(call: Callable[[], object]) -> np.ndarray:
    """Return the seconds that a call takes: of the clock, and of processors in all threads."""
    began = np.array([time.perf_counter(), time.process_time()])
    call()
    return np.array([time.perf_counter(), time.process_time()]) - began


def median(times: list[np.ndarray]) -> list[float]:
    return np.median(times, axis=0).tolist()


PHASES = {"load": load, "read": read, "change": change}


def phase(name: str, folder: Path, items: int, applied: int) -> dict[str, float]:
    """Run a phase in a process of its own; return what it measured, with its seconds and peak memory."""
    command = [sys.executable, __file__, "--phase", name, "--folder", str(folder), "--items", str(items)]
    run = subprocess.run([*command, "--applied", str(applied)], check=True, stdout=subprocess.PIPE, text=True)
    print(f"{items} {name}: {run.stdout.strip()}", file=sys.stderr)
    return json.loads(run.stdout)


def row(folder: Path, items: int, args: argparse.Namespace) -> str:
    place = folder / str(items)
    made = {}
    if not (place / "manifests").exists():
        shutil.rmtree(place, ignore_errors=True)
        made["load"] = phase("load", place, items, args.applied)
        (place / "load.json").write_text(json.dumps(made["load"]))
    made["load"] = json.loads((place / "load.json").read_text())
    for name in ("read", "change"):
        made[name] = phase(name, place, items, args.applied)
    a, b, c = made["load"], made["read"], made["change"]
    cells = [
        f"{items:,}", f"{b['entities']:,}", f"{b['relations']:,}", f"{b['hub']:,}", f"{a['bytes'] / 1e9:.2f} GB",
        said(b["open"]), said(b["hop"]), said(b["told"]), said(c["add"]), said(c["slowest"]), said(c["remove"]),
        f"{b['peak'] / 1e9:.1f} GB", f"{c['peak'] / 1e9:.1f} GB",
    ]  # fmt: skip
    how = "Writer.apply" if items <= args.applied else "directly"
    print(
        f"{items}: loaded {how} in {a['seconds']:.0f} s, peak memory {a['peak'] / 1e9:.1f} GB",
        file=sys.stderr,
    )
    return "| " + " | ".join(cells) + " |"


def said(times: list[float]) -> str:
    """Return seconds of the clock and, in brackets, of processors."""
    clock, processors = times
    return (
        f"{1000 * clock:.1f} ms ({1000 * processors:.1f})"
        if clock < 0.1
        else f"{clock:.2f} s ({processors:.2f})"
    )


COLUMNS = (
    *("items", "entities", "relations", "edges of the greatest hub", "on disk", "opening", "hop of 1,000"),
    *(
        "the same with texts",
        "adding an item",
        "slowest of 7",
        "removing one",
        "peak, reading",
        "peak, writing",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--folder", type=Path, required=True, help="for the graphs; one that is there is used again"
    )
    parser.add_argument(
        "--applied", type=int, default=10_000, help="items up to which Writer.apply loads the graph"
    )
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase:
        began = time.perf_counter()
        found = PHASES[args.phase](str(args.folder), args.items[0], args.applied)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            json.dumps(
                found | {"seconds": time.perf_counter() - began, "cpu": time.process_time(), "peak": peak}
            )
        )
        return
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---:|" * len(COLUMNS)
    print(head, *(row(args.folder, items, args) for items in args.items), sep="\n", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
