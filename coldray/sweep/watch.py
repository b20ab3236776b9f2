"""How a sweep stands, from MLflow alone: what any terminal can follow while another one runs it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.entities import Run
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coldray.sweep import artifacts as a
from coldray.sweep.tracking import reaching
from coldray.sweep.validate import cells_of, find_sweep


@dataclass(frozen=True)
class MethodProgress:
    """The cells of a method."""

    method: str
    cells: int
    done: int
    failed: int
    running: tuple[str, ...]
    """of each its seed, K and newest validation metric, in words"""
    cold_ndcg: float | None
    """mean over what is done; None while nothing is"""


@dataclass(frozen=True)
class Progress:
    """A sweep at a moment."""

    name: str
    status: str
    """of its run: RUNNING, FINISHED, FAILED or KILLED"""
    methods: tuple[MethodProgress, ...]
    seconds_left: float | None
    """at the pace of what is done; None while nothing is"""

    @property
    def done(self) -> int:
        """Number of finished cells."""
        return sum(method.done for method in self.methods)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return sum(method.cells for method in self.methods)


def look(uri: str, sweep: str | None) -> Progress:
    """Return how a sweep stands; what is raised is said at `coldray.sweep.validate.read_sweep`."""
    with reaching(uri):
        parent, spec = find_sweep(uri, sweep)
        runs = cells_of(uri, parent)
    by_cell: dict[str, Run] = {}
    for run in reversed(runs):  # the newest of a cell counts
        by_cell[run.data.tags.get(a.CELL_TAG, "")] = run
    methods = []
    for method in dict.fromkeys(cell.method for cell in spec.cells):
        cells = [cell for cell in spec.cells if cell.method == method]
        found = [by_cell[cell.cell_id] for cell in cells if cell.cell_id in by_cell]
        done = [run for run in found if run.info.status == "FINISHED"]
        failed = sum(run.info.status in ("FAILED", "KILLED") for run in found)
        running = tuple(_words(run) for run in found if run.info.status == "RUNNING")
        scores = [
            run.data.metrics["cold_ndcg_at_10"] for run in done if "cold_ndcg_at_10" in run.data.metrics
        ]
        mean = sum(scores) / len(scores) if scores else None
        methods.append(MethodProgress(method, len(cells), len(done), failed, running, mean))
    return Progress(
        spec.name, parent.info.status, tuple(methods), _left(list(by_cell.values()), len(spec.cells))
    )


def _words(run: Run) -> str:
    """Return which cell a run is of, and how its training does."""
    params, score = run.data.params, run.data.metrics.get("validation_ndcg_at_10")
    said = [f"seed {params.get('seed', '?')}", *([f"K {params['k']}"] if "k" in params else [])]
    return " ".join([*said, *([] if score is None else [f"validation NDCG@10 {score:.4f}"])])


def _left(runs: list[Run], cells: int) -> float | None:
    """Return the seconds that what is left takes at the pace so far, None where nothing is done."""
    ended = [run.info.end_time for run in runs if run.info.status == "FINISHED" and run.info.end_time]
    if not ended:
        return None
    elapsed = float(max(ended) - min(run.info.start_time for run in runs)) / 1000
    return elapsed / len(ended) * (cells - len(ended))


def follow(uri: str, sweep: str | None, seconds: float) -> Iterator[Progress]:
    """Yield how a sweep stands, every so many seconds, until it runs no more."""
    while True:
        progress = look(uri, sweep)
        yield progress
        if progress.status != "RUNNING":
            return
        time.sleep(seconds)


def view(progress: Progress) -> Group:
    """Return what a terminal shows."""
    left = "" if progress.seconds_left is None else f", about {_duration(progress.seconds_left)} left"
    ended = progress.status != "RUNNING"
    head = f"{progress.name}: {progress.done} of {progress.cells} cells done"
    head += f", {progress.status.lower()}" if ended else left
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    for heading in ("done", "failed", "cold NDCG@10"):
        table.add_column(heading, justify="right")
    table.add_column("running")
    for method in progress.methods:
        score = "" if method.cold_ndcg is None else f"{method.cold_ndcg:.4f}"
        failed = Text(str(method.failed), "red") if method.failed else Text("")
        done = f"{method.done}/{method.cells}"
        table.add_row(Text(method.method), done, failed, score, Text(", ".join(method.running)))
    return Group(Text(head, "bold"), table)


def _duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
