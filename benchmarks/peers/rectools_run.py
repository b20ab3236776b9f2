"""SASRec of RecTools: train, recommend, and print the result as a line of JSON.

    RECTOOLS_PYTHON benchmarks/peers/rectools_run.py SETTINGS

What the settings do not name stays as RecTools has it. Started by benchmarks/training.py.
"""

# mypy: disable-error-code="import-not-found,import-untyped", allow-subclassing-any
# (RecTools is in an environment of its own.)

import time
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import rectools
import torch
from measure import PeakMemory, deliver, read_columns, read_settings, top10_metrics
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Clock(pl.Callback):
    """Times the training loop: whole epochs, or what follows the first `warm_up` steps."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.steps = self.sequences = 0
        self.started = self.seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock; between two epochs it stands still."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step once the warm-up is over, and read the clock."""
        now = time.perf_counter()
        self.steps += 1
        if self.steps > self.warm_up:
            self.sequences += len(batch["x"])
            self.seconds += now - self.started
        self.started = now


def make_trainer(epochs: int, steps: int, warm_up: int) -> pl.Trainer:
    """Return the trainer that RecTools makes by default, with a clock and, if `steps`, an end after these."""
    length = {"max_steps": warm_up + steps} if steps else {"max_epochs": epochs, "min_epochs": epochs}
    return pl.Trainer(
        **length,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        devices=1,
        callbacks=[Clock(warm_up)],
    )


def make_dataset(columns: dict[str, Any]) -> Dataset:
    """Return the interactions as RecTools takes them; positions stand for times."""
    frame = pd.DataFrame(
        {
            Columns.User: columns["user"],
            Columns.Item: columns["item"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(columns["position"], unit="s"),
        }
    )
    return Dataset.construct(frame)


def rank(model: SASRecModel, settings: dict[str, Any]) -> dict[str, float]:
    """Return how long ten recommendations for every test user took, the peak memory, and how good they are."""
    test, memory = make_dataset(read_columns(settings, "test")), PeakMemory(settings["device"])
    target = pd.DataFrame(read_columns(settings, "targets"))
    with memory.watched():
        started = time.perf_counter()
        # A user none of whose items was trained on gets no recommendation and counts as missed.
        found = model.recommend(
            target["user"].to_numpy(), test, k=10, filter_viewed=True, on_unsupported_targets="ignore"
        )
        seconds = time.perf_counter() - started
    right = target.merge(found, left_on=["user", "target"], right_on=[Columns.User, Columns.Item], how="left")
    ranks = right[Columns.Rank].fillna(0).to_numpy(dtype=np.int64)
    return {"rank_seconds": seconds, "rank_gb": memory.gigabytes} | top10_metrics(ranks)


def main() -> None:
    settings = read_settings()
    torch.set_num_threads(settings["threads"])
    pl.seed_everything(settings["seed"])
    model = SASRecModel(
        n_blocks=settings["num_blocks"],
        n_heads=settings["num_heads"],
        n_factors=settings["dim"],
        dropout_rate=settings["dropout"],
        session_max_len=settings["max_length"],
        loss=settings["loss"],
        n_negatives=settings["num_negatives"],
        lr=settings["learning_rate"],
        batch_size=settings["batch_size"],
        get_trainer_func=make_trainer,
        get_trainer_func_kwargs={name: settings[name] for name in ("epochs", "steps", "warm_up")},
    )
    train, memory = make_dataset(read_columns(settings, "train")), PeakMemory(settings["device"])
    with memory.watched():
        started = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - started
    clock = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Clock))
    result = {
        "version": rectools.__version__,
        "sequences_per_second": clock.sequences / clock.seconds,
        "epochs": None if settings["steps"] else settings["epochs"],
        "train_seconds": None if settings["steps"] else seconds,
        "train_gb": memory.gigabytes,
    }
    deliver(result | (rank(model, settings) if settings["rank"] else {}))


if __name__ == "__main__":
    main()
