"""What one cell does: train or take a backbone, transfer, evaluate, write the result. No Ray, no MLflow."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from coldray import storage
from coldray.data.dataset import Split, load_split
from coldray.data.pseudo_cold import pseudo_cold_split
from coldray.encode.embeddings import embedding_manifest, load_embeddings
from coldray.encode.reduce import item_vectors
from coldray.errors import UserError
from coldray.evaluation import Scorer, evaluate
from coldray.evaluation.ranking import exposure_of_cold, exposure_offsets
from coldray.llm.engine import Engine
from coldray.models.baselines import HistoryAverage, ItemKNN, Popularity
from coldray.models.scorers import SASRecScorer
from coldray.settings import digest
from coldray.sweep import artifacts as a
from coldray.sweep.asking import (
    ask_all,
    asked_of,
    evaluation_of,
    graph_record,
    grow,
    metrics_of,
    prices_of,
    table_of,
)
from coldray.sweep.content import content_scorer, train_content
from coldray.sweep.grid import Cell
from coldray.sweep.questions import Question
from coldray.sweep.results import DONE, as_json, transfer_table, with_test_users, write_result
from coldray.training import Backbone, TrainingSettings
from coldray.training.trainer import Trainer
from coldray.transfer import (
    Probe,
    ProbeSet,
    SelectionSettings,
    Spaces,
    Transfer,
    TransferSettings,
    select_transfer,
)
from coldray.zeroshot.catalogue import Catalogue

Report = dict[str, float]
Train = Callable[[Split, TrainingSettings, int, npt.NDArray[np.float32] | None, str, str], Iterator[Report]]
"""trains a backbone elsewhere: `coldray.sweep.spread.Spread.train`"""
Embeddings = dict[str, npt.NDArray[np.float32]]


class Workspace:
    """Runs cells of a sweep one after another, and keeps between them what they share."""

    def __init__(
        self,
        dataset: str,
        runs: str,
        device: str = "cpu",
        share_backbones: bool = True,
        engine: Callable[[], Engine] | None = None,
        train: Train | None = None,
    ) -> None:
        """Take the data set, where backbones and results are kept, and what gives a language model and trains elsewhere."""
        self.dataset = dataset
        self.runs = runs
        self.device = torch.device(device)
        self.share_backbones = share_backbones
        self._make_engine = engine
        self._train_elsewhere = train
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
        if cell.question is not None:
            yield from enumerate(self._ask(cell, cell.question), start=1)
            return
        if cell.content is not None:
            yield from enumerate(train_content(cell, *self._for_content(cell)), start=1)
        if cell.selection is not None:
            yield from enumerate(self._select(cell, cell.selection), start=1)
        training = self.backbone_cell(cell).training
        if training is not None:
            content = None if training.variant == "sasrec" else self._content(cell)
            reports = self._train(
                self._split(cell), training, cell.seed, content, self._backbone_folder(cell)
            )
            yield from enumerate(reports, start=1)
        scorer, transfer = self._scorer(cell)
        split = self._split(cell)
        evaluation = evaluate(scorer, split.test, split.num_warm, headline_only=_settings(cell) == 1)
        metrics, files = {"seconds": time.perf_counter() - started}, self._files(cell)
        if transfer is not None:
            files[a.TRANSFER] = transfer_table(split, transfer)
            metrics["mean_gate"] = float(transfer.gate.mean())
        write_result(
            self.result_folder(cell), evaluation, split.train_counts, files, metrics, _settings(cell)
        )

    def _files(self, cell: Cell) -> dict[str, pa.Table | bytes]:
        """Return how the cell's settings were chosen, if they were."""
        files: dict[str, pa.Table | bytes] = {}
        if cell.selection is not None:
            files[a.SELECTION] = storage.read_bytes(self._selection_file(cell))
        if cell.search_id is not None:
            folder = self._folder("searches", cell.search_id, cell)
            files[a.SEARCH] = storage.read_bytes(storage.join(folder, a.SEARCH))
        return files

    def _ask(self, cell: Cell, question: Question) -> Iterator[Report]:
        """Ask a language model for every test user and write the result; yield how many are done."""
        if self._make_engine is None:
            raise ValueError(f"{cell.method} asks a language model, and there is none")
        split, started = self._split(cell), time.perf_counter()
        if question.growth[1]:
            question = grow(question, split, self._folder("graphs", str(question.shared_id), cell))
        asked = asked_of(split, question)
        catalogue = self._catalogue(question, split)
        answers = storage.join(self.runs, "answers")
        yield from ask_all(asked, question, cell.seed, catalogue, self._make_engine, answers)
        table = table_of(split.test, asked, catalogue)
        metrics = metrics_of(table, asked.prepared, prices_of(question.settings))
        metrics |= {"seconds": time.perf_counter() - started}
        files: dict[str, pa.Table | bytes] = {a.RECOMMENDED: table}
        figures = graph_record(question)
        files |= {} if figures is None else {a.GRAPH: as_json(figures)}
        evaluation = evaluation_of(split.test, split.num_warm, asked)
        write_result(
            self.result_folder(cell), evaluation, split.train_counts, files, metrics, _settings(cell)
        )

    def _catalogue(self, question: Question, split: Split) -> Catalogue:
        columns = question.settings.columns

        def read() -> Catalogue:
            table = storage.read_table(storage.join(self.dataset, "items.parquet"))
            return Catalogue.of(table, split.item_ids, columns)

        catalogue: Catalogue = self._keep("catalogue", (split.fingerprint, columns), read)
        return catalogue

    def _for_content(
        self, cell: Cell
    ) -> tuple[Split, npt.NDArray[np.float32], Callable[[str, str], str], torch.device]:
        """Return what the baselines that map content need of a cell."""

        def folders(kind: str, name: str) -> str:
            return self._folder(kind, name, cell)

        return self._split(cell), self._embedding(cell), folders, self.device

    def _train(
        self,
        split: Split,
        settings: TrainingSettings,
        seed: int,
        content: npt.NDArray[np.float32] | None,
        folder: str,
    ) -> Iterator[Report]:
        """Train the backbone of `folder` and yield the report of each epoch; nothing where it is there already."""
        if storage.exists(storage.join(folder, "backbone.json")):
            return
        state = storage.join(folder, "state.safetensors")
        if self._train_elsewhere is not None:
            yield from self._train_elsewhere(split, settings, seed, content, folder, state)
            storage.delete(state)
            return
        trainer = Trainer(split, settings, seed, content, device=self.device, state_file=state)
        yield from trainer.backbone.epochs  # those of a killed trial come again: tracking may have missed them
        for _, report in trainer.epochs():
            yield report
        trainer.backbone.save(folder)
        storage.delete(state)

    def _select(self, cell: Cell, settings: SelectionSettings) -> Iterator[Report]:
        """Choose the cell's transfer, and yield the reports of the probes that are trained for it."""
        target = self._selection_file(cell)
        if storage.exists(target):
            return
        sets, seconds = yield from self.probes(cell, settings)
        started = time.perf_counter()
        choice = select_transfer(sets, settings)
        took = {"seconds": time.perf_counter() - started, "training_seconds": seconds}
        storage.write_json(target, choice.record() | took)

    def probes(
        self, cell: Cell, settings: SelectionSettings
    ) -> Generator[Report, None, tuple[list[ProbeSet], float]]:
        """Train the probes that a trained cell's transfer is chosen with: yield the reports of their epochs, return them and
        the seconds that it took.

        A probe's split has neither cold items nor test users, and nothing else is looked at.
        """
        if cell.training is None:
            raise ValueError(f"{cell.method} is not trained")
        side, seconds, sets = settings.parts(len(self._split(cell).validation)), 0.0, []
        for bound in dict.fromkeys((cell.training.max_delta_norm, *settings.max_delta_norms)):
            bounded, probes = cell.training.model_copy(update={"max_delta_norm": bound}), []
            for part in range(2 * side):
                split = pseudo_cold_split(self._split(cell), settings.pseudo_cold, part, settings.seed)
                content, embeddings = self._vectors(cell, split)
                seed = settings.seed + part  # probes of one seed would share the luck of their training
                folder = self._probe_folder(cell, split, bounded, seed)
                for report in self._train(split, bounded, seed, content, folder):
                    seconds += report["train_seconds"] + report["validation_seconds"]
                    yield report | {"probe": part}
                probes.append(_probe(Backbone.load(folder, self.device), content, embeddings, split))
            sets.append(ProbeSet(bound, probes[:side], probes[side:]))
        return sets, seconds

    def _probe_folder(self, cell: Cell, split: Split, training: TrainingSettings, seed: int) -> str:
        """Return where the backbone of a probe is kept."""
        plain = training.model_dump(mode="json")
        parts = [split.fingerprint, cell.data["embedding_fingerprint"], plain, seed]
        return self._folder("backbones", digest(parts), cell)

    def _selection_file(self, cell: Cell) -> str:
        return storage.join(self._folder("selections", str(cell.selection_id), cell), a.SELECTION)

    def _chosen(self, cell: Cell) -> TransferSettings | None:
        """Return the cell's transfer settings: given, or chosen; None: none."""
        if cell.selection is None:
            return cell.transfer
        found = storage.read_json(self._selection_file(cell))["transfer"]
        return None if found is None else TransferSettings.model_validate(found)

    def backbone_cell(self, cell: Cell) -> Cell:
        """Return the cell with the bound of the residuals' norm that it trains with: its own, or the chosen one."""
        if cell.selection is None:
            return cell
        return cell.trained_with(storage.read_json(self._selection_file(cell))["max_delta_norm"])

    def _backbone_folder(self, cell: Cell) -> str:
        return self._folder("backbones", str(self.backbone_cell(cell).backbone_id), cell)

    def _folder(self, kind: str, name: str, cell: Cell) -> str:
        """Return where what cells share is kept, or what this cell makes for itself."""
        return storage.join(self.runs, kind, name if self.share_backbones else f"{name}-{cell.cell_id}")

    def scorer(self, cell: Cell) -> tuple[Scorer, Split]:
        """Return what a cell that has been run ranks with, and its split. Raises UserError if it has not been run."""
        if not storage.exists(storage.join(self.result_folder(cell), DONE)):
            raise UserError(
                f"{self.runs}: {a.variant_label(cell.method, cell.k)} seed={cell.seed} has not been run to its end; go on "
                "with coldray sweep resume"
            )
        return self._scorer(cell)[0], self._split(cell)

    def _scorer(self, cell: Cell) -> tuple[Scorer, Transfer[npt.NDArray[Any]] | None]:
        """Return what the cell evaluates and, if it transfers, what was transferred."""
        split = self._split(cell)
        if cell.training is None:
            return self._untransferred(cell, split), None
        folder = self._backbone_folder(cell)
        backbone = self._keep("backbone", folder, lambda: Backbone.load(folder, self.device))
        with torch.no_grad():
            plain = backbone.embedding.table()
            table = plain.clone()
        settings = self._chosen(cell)
        if settings is None:
            return SASRecScorer(backbone.encoder, table), None
        content, first = self._content(cell), split.num_warm + 1
        residuals = backbone.residuals.cpu().numpy()
        transfer = self._spaces(cell).transfer(residuals[1:first], settings, residuals[first:])
        table[first:] = torch.from_numpy(content[first:] + transfer.residuals).to(self.device)
        scorer = SASRecScorer(backbone.encoder, table)
        if settings.exposure is None:
            return scorer, transfer
        known = (split.validation, split.num_warm)
        share = settings.exposure * exposure_of_cold(SASRecScorer(backbone.encoder, plain), *known)
        bias = table.new_zeros(len(table))
        (bias[first:],) = exposure_offsets(scorer, *known, [share])
        return SASRecScorer(backbone.encoder, table, bias), transfer

    def _untransferred(self, cell: Cell, split: Split) -> Scorer:
        """Return the scorer of a method that has no backbone."""
        if cell.content is not None:
            return content_scorer(cell, *self._for_content(cell))
        match cell.method:
            case "popularity":
                return Popularity(split.train_counts)
            case "item-knn":
                return ItemKNN.of_users(split.train, split.num_items)
            case "content-knn":
                return ItemKNN.of_content(self._embedding(cell))
            case "history-average":
                return HistoryAverage(torch.from_numpy(self._content(cell)).to(self.device))
            case _:
                raise ValueError(f"{cell.method} scores no items")

    def _split(self, cell: Cell) -> Split:
        def load() -> Split:
            split = load_split(self.dataset, cell.data["split"])
            if split.fingerprint != cell.data["fingerprint"]:
                raise UserError(
                    f"{cell.data['path']}: the split has changed since the sweep began; run the sweep anew"
                )
            return with_test_users(split, cell.data.get("cold_users"))

        key = (cell.data["fingerprint"], cell.data.get("cold_users"))
        split: Split = self._keep("split", key, load)
        return split

    def _content(self, cell: Cell) -> npt.NDArray[np.float32]:
        """Return the frozen item vectors e0, [num_items + 1, d]."""
        data, split, dim = cell.data, self._split(cell), cell.dim
        if dim is None:
            raise ValueError(f"{cell.method} has no item vectors")
        key = (data["fingerprint"], data["embedding_fingerprint"], dim)

        vectors: npt.NDArray[np.float32] = self._keep(
            "content", key, lambda: item_vectors(self._embedding(cell), split.num_warm, dim)
        )
        return vectors

    def _embedding(self, cell: Cell) -> npt.NDArray[np.float32]:
        """Return the embedding of all items as it was encoded, [num_items + 1, e], row 0 zero."""
        return self._encoded(cell, cell.data["embedding"], cell.data["embedding_fingerprint"])

    def _encoded(self, cell: Cell, name: str, fingerprint: str) -> npt.NDArray[np.float32]:
        """Return an embedding of all items, [num_items + 1, e], row 0 zero. Raises UserError if it is not what it was."""
        data, split = cell.data, self._split(cell)

        def load() -> npt.NDArray[np.float32]:
            if embedding_manifest(self.dataset, name)["fingerprint"] != fingerprint:
                raise UserError(
                    f"{data['path']}: the embedding {name} has changed since the sweep began; run the sweep anew"
                )
            raw = load_embeddings(self.dataset, name, split.item_ids)
            return np.vstack([np.zeros((1, raw.shape[1]), np.float32), raw])

        key = (data["fingerprint"], fingerprint)
        embedding: npt.NDArray[np.float32] = self._keep(f"embedding {name}", key, load)
        return embedding

    def _embeddings(self, cell: Cell) -> Embeddings:
        """Return the embedding and those of the cell's modalities, by the names of their spaces."""
        further = cell.data.get("modalities", {}).items()
        return {"embedding": self._embedding(cell)} | {
            name: self._encoded(cell, name, of) for name, of in further
        }

    def _spaces(self, cell: Cell) -> Spaces:
        """Return the spaces in which the cell looks for neighbours, which it finds once for every K up to 100."""

        def make() -> Spaces:
            spaces = {"item_vectors": self._content(cell), **self._embeddings(cell)}
            return Spaces(spaces, self._split(cell).num_warm)

        spaces: Spaces = self._keep("spaces", (cell.data, cell.dim), make)
        return spaces

    def _vectors(self, cell: Cell, split: Split) -> tuple[npt.NDArray[np.float32], Embeddings]:
        """Return the item vectors and the embeddings of a split within the cell's, row 0 zero."""
        rows = pc.index_in(split.item_ids, value_set=self._split(cell).item_ids).to_numpy() + 1
        rows = np.concatenate([[0], rows])
        embeddings = {name: whole[rows] for name, whole in self._embeddings(cell).items()}
        if cell.dim is None:
            raise ValueError(f"{cell.method} has no item vectors")
        return item_vectors(embeddings["embedding"], split.num_warm, cell.dim), embeddings

    def _keep(self, kind: str, key: Any, make: Any) -> Any:
        """Return what was made last of this kind, if for the same key, else make it."""
        if kind not in self._kept or self._kept[kind][0] != key:
            self._kept[kind] = (key, make())
        return self._kept[kind][1]


def _probe(
    backbone: Backbone,
    content: npt.NDArray[np.float32],
    embeddings: Embeddings,
    split: Split,
) -> Probe:
    """Return a probe, whose users with targets of both kinds are the split's test users."""
    residuals = backbone.residuals.cpu().numpy()
    encoder, users = backbone.encoder, split.test
    return Probe(encoder, content, embeddings, residuals, split.num_warm, split.validation, users)


def _settings(cell: Cell) -> int:
    """Return in how many of the four settings a cell is evaluated: the first where only cold targets are."""
    return 1 if cell.data.get("cold_users") is not None else 4
