"""What one cell does: train or take a backbone, transfer, evaluate, write the result. No Ray, no MLflow."""

import csv
import gzip
import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from coldray import storage
from coldray.data.dataset import Split, load_split
from coldray.encode.embeddings import embedding_manifest
from coldray.encode.reduce import item_vectors
from coldray.errors import UserError
from coldray.evaluation import Evaluation, Scorer, evaluate, settings_table
from coldray.models.baselines import HistoryAverage, ItemKNN, Popularity
from coldray.models.scorers import SASRecScorer
from coldray.sweep import artifacts as a
from coldray.sweep.grid import Cell
from coldray.training import Backbone, TrainingSettings
from coldray.training.trainer import Trainer
from coldray.transfer import Neighbors, Transfer, nearest_warm
from coldray.transfer.residuals import propagate

Report = dict[str, float]
DONE = "done.json"
WIDEST = 100
"""neighbours found at once for all K of a grid up to this one"""


class Workspace:
    """Runs cells of a sweep one after another, and keeps between them what they share."""

    def __init__(self, dataset: str, runs: str, device: str = "cpu", share_backbones: bool = True) -> None:
        """Take the data set, and the folder or URI where backbones and results are kept."""
        self.dataset = dataset
        self.runs = runs
        self.device = torch.device(device)
        self.share_backbones = share_backbones
        self._kept: dict[str, tuple[Any, Any]] = {}

    def result_folder(self, cell: Cell) -> str:
        """Return where the cell's result is kept."""
        return storage.join(self.runs, "cells", cell.cell_id)

    def run(self, cell: Cell) -> Iterator[tuple[int, Report]]:
        """Yield (epoch, report) of each epoch the cell trains, if any; its result is on disk afterwards.

        A cell whose result is there already yields nothing.
        """
        if storage.exists(storage.join(self.result_folder(cell), DONE)):
            return
        started = time.perf_counter()
        if cell.training is not None:
            yield from self._train(cell, cell.training)
        scorer, transfer = self._scorer(cell)
        split = self._split(cell)
        evaluation = evaluate(scorer, split.test, split.num_warm)
        self._write(cell, split, evaluation, transfer, time.perf_counter() - started)

    def _train(self, cell: Cell, settings: TrainingSettings) -> Iterator[tuple[int, Report]]:
        folder = self._backbone_folder(cell)
        if storage.exists(storage.join(folder, "backbone.json")):
            return
        trainer = Trainer(
            self._split(cell),
            settings,
            cell.seed,
            None if settings.variant == "sasrec" else self._content(cell),
            device=self.device,
            state_file=storage.join(folder, "state.safetensors"),
        )
        # Those of a killed trial come again: tracking may have missed them.
        yield from enumerate(trainer.backbone.epochs, start=1)
        yield from trainer.epochs()
        trainer.backbone.save(folder)
        storage.delete(storage.join(folder, "state.safetensors"))

    def _backbone_folder(self, cell: Cell) -> str:
        name = str(cell.backbone_id)
        return storage.join(
            self.runs, "backbones", name if self.share_backbones else f"{name}-{cell.cell_id}"
        )

    def _scorer(self, cell: Cell) -> tuple[Scorer, Transfer[npt.NDArray[Any]] | None]:
        """Return what the cell evaluates and, if it transfers, what was transferred."""
        split = self._split(cell)
        if cell.method == "popularity":
            return Popularity(split.train_counts), None
        if cell.method == "item-knn":
            return ItemKNN(split.train, split.num_items), None
        if cell.method == "history-average":
            return HistoryAverage(self._content(cell), self.device), None
        folder = self._backbone_folder(cell)
        backbone = self._keep("backbone", folder, lambda: Backbone.load(folder, self.device))
        with torch.no_grad():
            table = backbone.embedding.table().clone()
        if cell.transfer is None:
            return SASRecScorer(backbone.encoder, table), None
        content, first = self._content(cell), split.num_warm + 1
        residuals = backbone.residuals.cpu().numpy()
        transfer = propagate(
            content[first:],
            content[1:first],
            residuals[1:first],
            cell.transfer,
            own_residuals=residuals[first:],
            neighbors=self._neighbors(cell),
        )
        table[first:] = torch.from_numpy(content[first:] + transfer.residuals).to(self.device)
        return SASRecScorer(backbone.encoder, table), transfer

    def _split(self, cell: Cell) -> Split:
        def load() -> Split:
            split = load_split(self.dataset, cell.data["split"])
            if split.fingerprint != cell.data["fingerprint"]:
                raise UserError(
                    f"{cell.data['path']}: the split has changed since the sweep began; run the sweep anew"
                )
            return split

        split: Split = self._keep("split", cell.data["fingerprint"], load)
        return split

    def _content(self, cell: Cell) -> npt.NDArray[np.float32]:
        """Return the frozen item vectors e0, [num_items + 1, d]."""
        data, split, dim = cell.data, self._split(cell), cell.dim
        if dim is None:
            raise ValueError(f"{cell.method} has no item vectors")
        key = (data["fingerprint"], data["embedding_fingerprint"], dim)

        def load() -> npt.NDArray[np.float32]:
            manifest = embedding_manifest(self.dataset, data["embedding"])
            if manifest["fingerprint"] != data["embedding_fingerprint"]:
                raise UserError(
                    f"{data['path']}: the embedding has changed since the sweep began; run the sweep anew"
                )
            return item_vectors(self.dataset, data["embedding"], split, dim)

        vectors: npt.NDArray[np.float32] = self._keep("content", key, load)
        return vectors

    def _neighbors(self, cell: Cell) -> Neighbors:
        """Return the warm neighbours of all cold items, found once for every K up to `WIDEST`."""
        transfer, split, content = cell.transfer, self._split(cell), self._content(cell)
        if transfer is None:
            raise ValueError("only a cell that transfers has neighbours")
        k = min(max(transfer.k, WIDEST), split.num_warm)
        key = (
            cell.data["fingerprint"],
            cell.data["embedding_fingerprint"],
            content.shape[1],
            k,
            transfer.index,
        )
        first = split.num_warm + 1
        found: Neighbors = self._keep(
            "neighbors", key, lambda: nearest_warm(content[first:], content[1:first], k, transfer.index)
        )
        return found

    def _keep(self, kind: str, key: Any, make: Any) -> Any:
        """Return what was made last of this kind, if for the same key, else make it."""
        if kind not in self._kept or self._kept[kind][0] != key:
            self._kept[kind] = (key, make())
        return self._kept[kind][1]

    def _write(
        self,
        cell: Cell,
        split: Split,
        evaluation: Evaluation,
        transfer: Transfer[npt.NDArray[Any]] | None,
        seconds: float,
    ) -> None:
        """Write the result's files, the one that says that it is whole last."""
        folder = self.result_folder(cell)
        rows = settings_table(evaluation)
        storage.write_bytes(storage.join(folder, a.EVALUATION), _csv_gz(rows))
        storage.write_table(storage.join(folder, a.RANKS), evaluation.to_table(split.train_counts))
        headline = {key.replace("@", "_at_").lower(): value for key, value in rows[0].items() if "@" in key}
        metrics = headline | {"seconds": seconds}
        if transfer is not None:
            ids = split.item_ids[split.num_warm :]
            nearest = transfer.similarities[:, 0].astype(np.float32)
            gates = {"item_id": ids, "gate": transfer.gate.astype(np.float32), "max_similarity": nearest}
            storage.write_table(storage.join(folder, a.TRANSFER), pa.table(gates))
            metrics["mean_gate"] = float(transfer.gate.mean())
        known = {key: value for key, value in metrics.items() if not np.isnan(value)}
        storage.write_json(storage.join(folder, DONE), {"metrics": known})


def _csv_gz(rows: list[dict[str, Any]]) -> bytes:
    """Return `rows` as compressed CSV, the same bytes for the same rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)
