"""What every script of the training benchmark shares: its settings, memory, ranking metrics, the line it prints.

Runs in the environments of all libraries: the standard library, numpy, psutil and torch only.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

INTERVAL = 0.01
"""seconds between two looks at the memory"""


class PeakMemory:
    """Peak memory of this process during the blocks `with memory.watched():`: resident, or what torch took of a GPU."""

    def __init__(self, device: str = "cpu") -> None:
        self._bytes = 0
        self._device = device
        self._process = psutil.Process()

    @property
    def gigabytes(self) -> float:
        """The peak, in 10^9 bytes."""
        return self._bytes / 1e9

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch this process until the block ends."""
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._look()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        gpu = self._device == "cuda"
        now = torch.cuda.max_memory_allocated() if gpu else self._process.memory_info().rss
        self._bytes = max(self._bytes, now)


def read_settings() -> dict[str, Any]:
    """Return the settings, JSON in the first argument, and take it from the command line."""
    settings: dict[str, Any] = json.loads(sys.argv.pop(1))
    return settings


def read_columns(settings: dict[str, Any], name: str) -> dict[str, npt.NDArray[Any]]:
    """Return a table of the exchanged data, a column each."""
    with np.load(Path(settings["data"]) / f"{name}.npz", allow_pickle=False) as columns:
        return dict(columns)


def top10_metrics(ranks: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return NDCG@10 and Recall@10 of the ranks of all users' targets, 1 the best, 0 for not among the ten."""
    hit = ranks >= 1
    gains = np.where(hit, 1 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
    return {"ndcg_at_10": float(gains.mean()), "recall_at_10": float(hit.mean())}


def deliver(result: dict[str, Any]) -> None:
    """Print the result as the last line of standard output."""
    print(json.dumps(result), flush=True)
