"""A cell as a Ray Tune trial: it runs the cell, epoch by epoch, and tells MLflow.

One actor runs trial after trial, so that data, backbones and imports are paid for once.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import torch
from pydantic import SecretStr
from ray import tune

from coldray import storage
from coldray.errors import ServiceError, UserError
from coldray.llm.settings import EngineSettings, make_engine
from coldray.sweep import artifacts as a
from coldray.sweep.config import Resources
from coldray.sweep.grid import Cell
from coldray.sweep.metrics import TrainingSpeed
from coldray.sweep.results import DONE
from coldray.sweep.spread import Spread
from coldray.sweep.tracking import Tracker
from coldray.sweep.work import Workspace

PAUSE = 15.0
"""seconds before a cell whose language model or address did not answer is tried again"""
FAILURE = "failure"
"""in a trial's last result: why the cell cannot be run"""
LOGGED = ("train_loss", "validation_ndcg_at_10", "validation_recall_at_10", "sequences_per_second")


@dataclass(frozen=True)
class SweepContext:
    """What all trials of a sweep share."""

    sweep_id: str
    experiment: str
    tracking_uri: str
    parent_run_id: str
    dataset: str
    """absolute: a trial's working folder is its own"""
    runs: str
    """likewise"""
    share_backbones: bool
    resources: Resources
    llm: EngineSettings | None = None
    """of the methods that ask a language model"""
    key: SecretStr | None = None
    """of its address"""


class CellTrial(tune.Trainable):
    """Runs the cell `config["cell"]`; each step is an epoch, the last one the evaluation and the delivery."""

    def setup(self, config: dict[str, Any], context: SweepContext | None = None) -> None:
        """Prepare this actor for its first cell."""
        if context is None:
            raise ValueError("a trial needs the context of its sweep")
        self.context = context
        torch.set_num_threads(context.resources.cpus)
        faiss.omp_set_num_threads(context.resources.cpus)
        device = "cuda" if context.resources.gpus > 0 else "cpu"
        llm = context.llm
        engine = None if llm is None else partial(make_engine, llm, context.key)
        wanted = context.resources
        train = None if wanted.workers == 1 else Spread(wanted.workers, wanted.cpus, wanted.gpus).train
        self.workspace = Workspace(
            context.dataset, context.runs, device, context.share_backbones, engine, train
        )
        self.tracker = Tracker(context.tracking_uri, context.experiment)
        self.speed = TrainingSpeed(context.experiment)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare this actor for another cell."""
        self.cell: Cell = new_config["cell"]
        self.run_id: str | None = None
        self.epochs: Iterator[tuple[int, dict[str, float]]] = self.workspace.run(self.cell)
        return True

    def step(self) -> dict[str, Any]:
        """Return the report of an epoch or, when there is none left, the metrics of the cell."""
        if self.run_id is None:
            self.run_id = self.tracker.start_cell(
                self.context.parent_run_id, self.cell.entry(), self.cell.params()
            )
        try:
            epoch, report = next(self.epochs, (0, {}))
        except ServiceError as error:  # a model that died is replaced by then, and Tune tries the cell again
            self.tracker.fail_run(self.run_id, str(error))
            time.sleep(PAUSE)
            raise
        except UserError as error:  # trying again, as Tune does after what is raised, would not help
            self.tracker.fail_run(self.run_id, str(error))
            return {"done": True, FAILURE: str(error)}
        except OSError as error:
            self.tracker.fail_run(self.run_id, str(error))
            raise
        self.speed.set(report)
        if "probe" in report or "users" in report:
            return {"epoch": epoch} | report
        if epoch:
            logged = {name: report[name] for name in LOGGED if name in report}
            self.tracker.log_epochs(self.run_id, [{"epoch": epoch} | logged])
            return {"epoch": epoch} | report
        return self._deliver(self.run_id) | {"done": True}

    def _deliver(self, run_id: str) -> dict[str, Any]:
        """Log the cell's result to its run and return its metrics."""
        folder = self.workspace.result_folder(self.cell)
        metrics: dict[str, float] = storage.read_json(storage.join(folder, DONE))["metrics"]
        record = self.cell.entry() | {
            "dataset": self.cell.data,
            "sweep_id": self.context.sweep_id,
            "run_id": run_id,
            "backbone_id": self.workspace.backbone_cell(self.cell).backbone_id,
        }
        names = [a.EVALUATION, a.RANKS]
        names += [n for n in a.OPTIONAL if storage.exists(storage.join(folder, n))]
        with tempfile.TemporaryDirectory(prefix="coldray-cell-") as files:
            for name in names:
                (Path(files) / name).write_bytes(storage.read_bytes(storage.join(folder, name)))
            storage.write_json(str(Path(files) / a.TASK), record)
            self.tracker.finish_cell(run_id, metrics, files)
        return metrics

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep nothing: the training's own state file and the cell's result are what a trial goes on from."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Read nothing; see `save_checkpoint`."""
