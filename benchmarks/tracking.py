"""How fast a sweep is written to and read back from the embedded MLflow server.

    python benchmarks/tracking.py [--cells 64] [--read 1000] [--users 2000]

A cell is what a trial writes: 20 params, 20 epochs of 4 metrics, 8 final metrics and 3 files. Writers are
processes, as trials are. Prints one table.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from coldray.sweep import artifacts as a
from coldray.sweep.aggregate import aggregate
from coldray.sweep.server import embedded_server
from coldray.sweep.tracking import Tracker
from coldray.sweep.validate import read_sweep, validate

DATASET = {"path": "data/made-up", "split": "temporal", "fingerprint": "ab" * 8, "embedding": None}
DATASET |= {"embedding_fingerprint": None}


def make_sweep(name: str, cells: int) -> dict[str, Any]:
    """Return a sweep of `cells` cells: a baseline and nine K, over as many seeds as it takes."""
    entries = [
        {
            "cell_id": hashlib.sha256(f"{name}{i}".encode()).hexdigest()[:16],
            "method": "delta",
            "seed": i // 10,
        }
        | {"k": i % 10 or None, "model": {"dim": 64}, "training": {"loss": "softmax"}, "transfer": None}
        for i in range(cells)
    ]
    sweep_id = hashlib.sha256(name.encode()).hexdigest()[:16]
    sweep = {"format": 1, "name": name, "sweep_id": sweep_id, "dataset": DATASET, "baseline": "delta"}
    return sweep | {"cells": entries}


def write_files(
    sweep: dict[str, Any], cell: dict[str, Any], run_id: str, users: int, folder: Path
) -> dict[str, float]:
    """Write the three files of a cell with made-up ranks; return its metrics."""
    random = np.random.default_rng(int(cell["cell_id"], 16))
    cold = np.arange(users) % 10 == 0
    ranks = random.integers(1, 100, users).astype(np.int32)
    columns = {
        protocol.column: np.where(cold & (not protocol.recommend_cold), 0, ranks) for protocol in a.PROTOCOLS
    }
    who = {
        "user_id": [f"u{i}" for i in range(users)],
        "target": np.arange(users, dtype=np.int32),
        "cold": cold,
    }
    table = who | {"train_count": np.where(cold, 0, 1 + np.arange(users) % 97)} | columns
    pq.write_table(pa.table(table), folder / a.RANKS)
    rows = []
    for protocol in a.PROTOCOLS:
        row: dict[str, Any] = {
            "recommend-cold-items": protocol.recommend_cold,
            "filter-cold-items": protocol.filter_cold,
        }
        for metric in a.METRICS:
            gains = a.user_gains(columns[protocol.column], metric)
            row[metric] = float(gains[a.metric_users(metric, cold)].mean())
        rows.append(row | {"users": users, "cold_users": int(cold.sum()), "warm_users": int((~cold).sum())})
    with gzip.open(folder / a.EVALUATION, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    task = cell | {"dataset": DATASET, "sweep_id": sweep["sweep_id"], "run_id": run_id, "backbone_id": None}
    (folder / a.TASK).write_text(json.dumps(task))
    return {a.metric_key(metric): rows[0][metric] for metric in a.METRICS} | {
        "mean_gate": 0.5,
        "seconds": 1.0,
    }


def write_cells(
    uri: str, parent: str, sweep: dict[str, Any], cells: list[dict[str, Any]], users: int
) -> None:
    """Write `cells` one after another, as one worker does."""
    tracker = Tracker(uri, "benchmark")
    for cell in cells:
        run_id = tracker.start_cell(parent, cell, {f"setting_{i}": i for i in range(17)})
        names = ("train_loss", "validation_ndcg_at_10", "validation_recall_at_10", "sequences_per_second")
        tracker.log_epochs(
            run_id, [{"epoch": epoch} | dict.fromkeys(names, 1 / (epoch + 1)) for epoch in range(20)]
        )
        with tempfile.TemporaryDirectory() as folder:
            tracker.finish_cell(run_id, write_files(sweep, cell, run_id, users, Path(folder)), folder)


def measure_writing(uri: str, writers: int, cells: int, users: int) -> tuple[str, float]:
    """Return the name of a sweep of `cells` cells and the seconds that `writers` processes took to write it."""
    sweep = make_sweep(f"{writers} writers, {cells} cells", cells)
    parent = Tracker(uri, "benchmark").start_sweep(sweep)
    with ProcessPoolExecutor(writers) as pool:
        list(pool.map(time.sleep, [0.2] * writers))  # every process is up before the clock starts
        started = time.perf_counter()
        shares = [sweep["cells"][i::writers] for i in range(writers)]
        done = [pool.submit(write_cells, uri, parent, sweep, share, users) for share in shares]
        for future in done:
            future.result()
        seconds = time.perf_counter() - started
    return sweep["name"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=64, help="cells written in each measurement of writing")
    parser.add_argument("--read", type=int, default=1000, help="cells read back and aggregated")
    parser.add_argument("--users", type=int, default=2000, help="test users of a cell")
    options = parser.parse_args()
    table = Table(
        "what", "runs", "seconds", "runs per second", title=f"MLflow, embedded server, {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory() as folder, embedded_server(folder) as uri:
        for writers in (1, 8, 32):
            _, seconds = measure_writing(uri, writers, options.cells, options.users)
            label = f"written by {writers} process{'es' if writers > 1 else ''}"
            table.add_row(label, str(options.cells), f"{seconds:.1f}", f"{options.cells / seconds:.1f}")
        name, _ = measure_writing(uri, 8, options.read, options.users)
        started = time.perf_counter()
        with read_sweep(uri, name) as record:
            read = time.perf_counter()
            results, left_out = validate(record)
            checked = time.perf_counter()
            aggregate(record.spec, results)
            done = time.perf_counter()
        if left_out:
            raise SystemExit(
                f"{len(left_out)} of {options.read} runs were left out, the first: {left_out[0]}"
            )
        for label, seconds in (
            ("read back", read - started),
            ("checked", checked - read),
            ("aggregated", done - checked),
        ):
            table.add_row(label, str(options.read), f"{seconds:.1f}", f"{options.read / seconds:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
