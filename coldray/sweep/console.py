"""A running sweep in the terminal: a progress bar, what runs now, and what came out, on standard error."""

import time
from typing import Any

from ray.tune import Callback
from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coldray.sweep.artifacts import variant_label
from coldray.sweep.grid import Cell
from coldray.sweep.metrics import CellStates
from coldray.sweep.trial import FAILURE

ROWS = 12
"""newest finished cells shown"""


def label(cell: Cell) -> str:
    """Return what a person calls the cell."""
    return f"{variant_label(cell.method, cell.k, cell.varied)} seed={cell.seed}"


class SweepConsole(Callback):
    """Follows the trials of a sweep; a terminal sees a table that changes, a log file a line a cell, Prometheus numbers."""

    def __init__(self, sweep: str, cells: int, done: int) -> None:
        """Take the sweep's name, the number of its cells, and how many were finished before."""
        self._states = CellStates(sweep)
        self.failed: dict[str, str] = {}
        """why, by the cell's label"""
        self.completed = 0
        self._total, self._done = cells, done
        self._now: dict[str, str] = {}
        self._rows: list[tuple[str, ...]] = []
        self._terminal = Terminal(stderr=True)
        self._live: Live | None = None
        self._progress = Progress(
            TextColumn("[bold]cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._terminal,
        )
        self._task = self._progress.add_task("cells", total=cells, completed=done)
        self._started = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks, a terminal cannot be; nothing of this is needed again."""
        return {}

    def __enter__(self) -> "SweepConsole":
        if self._terminal.is_terminal:
            self._live = Live(self._view(), console=self._terminal, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show the cell as running."""
        self._now[trial.trial_id] = label(trial.config["cell"])
        self._refresh()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Show the epoch that was just trained."""
        said = {
            "epoch": "epoch {:.0f}",
            "probe": "choosing settings, {:.0f} tried",
            "users": "{:.0f} users asked for",
            "validation_ndcg_at_10": "validation NDCG@10 {:.4f}",
            "sequences_per_second": "{:,.0f} sequences/s",
        }
        told = [form.format(result[name]) for name, form in said.items() if name in result]
        if "users" in result:
            told = told[1:]  # here an epoch is but a report
        if told:
            self._now[trial.trial_id] = ": ".join((label(trial.config["cell"]), ", ".join(told)))
            self._refresh()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show the cell's metrics."""
        result = trial.last_result
        if FAILURE in result:
            self._fail(trial, result[FAILURE])
            return
        names = ("cold_ndcg_at_10", "cold_recall_at_10", "warm_ndcg_at_10", "ndcg_at_10")
        values = [f"{result[name]:.4f}" if name in result else "–" for name in names]
        self.completed += 1
        self._now.pop(trial.trial_id, None)
        self._rows.append((label(trial.config["cell"]), *values, f"{result.get('seconds', 0):.1f}"))
        self._progress.update(self._task, completed=self._done + self.completed)
        if self._live is None:
            done, row = self._done + self.completed, self._rows[-1]
            line = f"[{done}/{self._total}] {row[0]}: cold NDCG@10 {row[1]}, warm {row[3]}, total {row[4]} ({row[5]} s)"
            self._terminal.print(line, markup=False, highlight=False, soft_wrap=True)
        self._refresh()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep why the cell failed for good."""
        self._fail(trial, reason(trial))

    def _fail(self, trial: Any, why: str) -> None:
        name = label(trial.config["cell"])
        self._now.pop(trial.trial_id, None)
        self.failed[name] = why
        self._terminal.print(f"failed: {name}: {why}", markup=False, highlight=False, soft_wrap=True)
        self._refresh()

    def _refresh(self) -> None:
        done, failed = self._done + self.completed, len(self.failed)
        self._states.set(self._total, len(self._now), done, failed)
        if self._live is not None:
            self._live.update(self._view())

    def _view(self) -> Group:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("cell")
        for name in ("cold NDCG@10", "cold Recall@10", "warm NDCG@10", "NDCG@10", "seconds"):
            table.add_column(name, justify="right")
        for row in self._rows[-ROWS:]:
            table.add_row(*row)
        running = [f"  {text}" for text in self._now.values()]
        return Group(table, "", *running, self._progress)


def reason(trial: Any) -> str:
    """Return the last line of what a trial raised."""
    error = trial.get_pickled_error() or trial.get_error()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "its worker died; see the Ray dashboard"
