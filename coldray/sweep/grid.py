"""The cells of a sweep: what is run, and by which hashes it is known."""

from dataclasses import dataclass, replace
from typing import Any

from coldray import storage
from coldray.data.dataset import read_manifest, split_folder
from coldray.errors import UserError
from coldray.settings import digest
from coldray.sweep.config import SweepSettings
from coldray.sweep.methods import (
    ASKING,
    CONTENT,
    NEEDS_EMBEDDING,
    REDUCED,
    SELECTING,
    TO_COLD,
    TRAINED,
    TRANSFERRING,
    Method,
)
from coldray.sweep.questions import Question, make_questions
from coldray.training import TrainingSettings
from coldray.training.content import KINDS, ContentSettings
from coldray.transfer import SelectionSettings, TransferSettings


@dataclass(frozen=True)
class Cell:
    """A method with a seed and, where it transfers, a K."""

    method: Method
    seed: int
    training: TrainingSettings | None
    transfer: TransferSettings | None
    dim: int | None
    """size of the item vectors; None where the method has none"""
    data: dict[str, Any]
    """the block `dataset` of sweep.json: where the data is, and its fingerprints"""
    selection: SelectionSettings | None = None
    """how the transfer is chosen, where it is"""
    content: ContentSettings | None = None
    """of a baseline that is trained to map content to recommendations"""
    search: bool = False
    """whether some of these are chosen on pseudo-cold items"""
    question: Question | None = None
    """of a method that asks a language model"""

    @property
    def k(self) -> int | None:
        """Neighbours, of a method that transfers."""
        return None if self.transfer is None else self.transfer.k

    @property
    def backbone_id(self) -> str | None:
        """Hash of all that a trained backbone depends on: data, embedding, settings, seed."""
        if self.training is None:
            return None
        data = {key: self.data[key] for key in ("split", "fingerprint", "embedding_fingerprint")}
        return digest({"data": data, "training": self.training.model_dump(mode="json"), "seed": self.seed})

    def trained_with(self, max_delta_norm: float | None) -> "Cell":
        """Return the cell with another bound of the residuals' norm."""
        if self.training is None:
            raise ValueError(f"{self.method} is not trained")
        return replace(self, training=self.training.model_copy(update={"max_delta_norm": max_delta_norm}))

    @property
    def selection_id(self) -> str | None:
        """Hash of all that a chosen transfer depends on: data, embedding, settings; the cell's seed has no part in it."""
        if self.selection is None or self.training is None:
            return None
        keys = ("split", "fingerprint", "embedding_fingerprint", "modalities")
        data = {key: self.data[key] for key in keys if key in self.data}
        settings = [self.training.model_dump(mode="json"), self.selection.model_dump(mode="json")]
        return digest({"data": data, "training": settings[0], "selection": settings[1]})

    @property
    def search_id(self) -> str | None:
        """Hash of all that searched settings depend on; the cell's seed has no part in it."""
        if self.content is None or not self.search:
            return None
        data = {key: self.data[key] for key in ("split", "fingerprint", "embedding_fingerprint")}
        return digest({"data": data, "method": self.method, "content": self.content.model_dump(mode="json")})

    @property
    def shared_ids(self) -> tuple[str, ...]:
        """What the cell needs that other cells may need as well: a backbone, a chosen transfer, settings, a taxonomy."""
        asked = None if self.question is None else self.question.shared_id
        shared = (self.backbone_id, self.selection_id, self.search_id, asked)
        return tuple(found for found in shared if found is not None)

    @property
    def varied(self) -> str:
        """The setting that an analysis changes and its value; "" of a cell of the comparison."""
        return "" if self.question is None else self.question.varied

    @property
    def cell_id(self) -> str:
        """Hash of all that the cell's result depends on."""
        fingerprints = {key: value for key, value in self.data.items() if key != "path"}
        return digest(self._settings() | {"dataset": fingerprints})

    def _settings(self) -> dict[str, Any]:
        training = None if self.training is None else self.training.model_dump(mode="json")
        return {
            "method": self.method,
            "seed": self.seed,
            "k": self.k,
            "model": training.pop("encoder")
            if training is not None
            else {}
            if self.dim is None
            else {"dim": self.dim},
            "training": training,
            "transfer": None if self.transfer is None else self.transfer.model_dump(mode="json"),
            "selection": None if self.selection is None else self.selection.model_dump(mode="json"),
        } | self._more()

    def _more(self) -> dict[str, Any]:
        """Return what only some methods have: not there for the others, so that their ids do not depend on it."""
        more: dict[str, Any] = {}
        if self.content is not None:
            more["content"] = self.content.model_dump(mode="json") | {"search": self.search}
        if self.question is not None:
            more["question"] = self.question.record()
        return more | ({"varied": self.varied} if self.varied else {})

    def entry(self) -> dict[str, Any]:
        """Return the cell as an entry of sweep.json's cells."""
        return {"cell_id": self.cell_id} | self._settings()

    def params(self) -> dict[str, Any]:
        """Return the cell's settings, flat, as MLflow's params."""
        modalities = self.data.get("modalities", {})
        data = self.data | ({"modalities": ", ".join(sorted(modalities))} if modalities else {})
        parts = [data, *(part for part in (self.training, self.transfer, self.content) if part is not None)]
        parts += [self._more()] if self.question is not None else []
        flat: dict[str, Any] = {}
        for part in parts:
            plain = part if isinstance(part, dict) else part.model_dump(mode="json")
            for key, value in plain.items():
                inner = value if isinstance(value, dict) else {key: value}
                flat |= {name: entry for name, entry in inner.items() if entry is not None}
        renamed = {"path": "dataset", "fingerprint": "dataset_fingerprint", "kind": "gate"}
        named = {renamed.get(key, key): value for key, value in flat.items() if key != "k"}
        selection = {} if self.selection is None else self.selection.model_dump(mode="json")
        return named | {f"selection_{key}": value for key, value in selection.items()}


def make_cells(settings: SweepSettings) -> list[Cell]:
    """Return the cells of a sweep, baseline and backbones first.

    Raises UserError if the data set, the split or the embedding is not there, or does not go with the methods.
    """
    data = describe_data(settings)
    cells = []
    questions = make_questions(settings)
    for method in sorted(settings.methods, key=lambda m: (m in TO_COLD, m in ASKING)):
        if method in ASKING:
            cells += [
                Cell(method, seed, None, None, None, data, question=question)
                for question in questions[method]
                for seed in (settings.seeds[:1] if question.varied else settings.seeds)
            ]
            continue
        if method in CONTENT:
            content = KINDS[method][1]()
            cells += [
                Cell(method, seed, None, None, None, data, content=content, search=settings.search)
                for seed in settings.seeds
            ]
            continue
        variant = TRAINED.get(method)
        dim = settings.training.encoder.dim if method in REDUCED else None
        selection = settings.selection if method == SELECTING else None
        training = None if variant is None else settings.training.model_copy(update={"variant": variant})
        for seed in settings.seeds:
            cells += [
                Cell(method, seed, training, transfer, dim, data, selection)
                for transfer in _transfers(settings, method)
            ]
    return sorted(cells, key=lambda cell: bool(cell.varied))  # analyses come when the comparison is there


def _transfers(settings: SweepSettings, method: Method) -> list[TransferSettings | None]:
    """Return the transfer settings of a method's cells; the residuals are bounded as in training if not said otherwise."""
    if method not in TRANSFERRING:
        return [None]
    base = settings.transfer
    if "max_norm" not in base.model_fields_set:
        base = base.model_copy(update={"max_norm": settings.training.max_delta_norm})
    if method == "delta+knn":
        base = base.model_copy(update={"gate": None})
    return [base.model_copy(update={"k": k}) for k in settings.k]


def describe_data(settings: SweepSettings) -> dict[str, Any]:
    """Return the block `dataset` of sweep.json.

    Raises UserError if anything that it names is missing, or is nothing that the sweep's methods can use.
    """
    split = _read_split(settings)
    transferring = [method for method in settings.methods if method in TO_COLD]
    if settings.cold_users is not None and not split["num_cold"]:
        raise UserError(
            f"{split_folder(settings.dataset, settings.split)}: has no cold item, so nobody has a cold target; make the split "
            "with --protocol leave_one_out --cold-fraction 0.1, or leave cold_users out"
        )
    if transferring and not split["num_cold"]:
        raise UserError(
            f"{split_folder(settings.dataset, settings.split)}: has no cold item, so {transferring[0]} has nothing to "
            "transfer to; use another split, such as strict_cold, or leave the method out"
        )
    embedding = None
    if settings.embedding is not None:
        folder, embedding = _read_embedding(settings, settings.embedding, split)
        if any(method in NEEDS_EMBEDDING and method in REDUCED for method in settings.methods):
            _check_size(settings.training.encoder.dim, folder, embedding["dim"], split["num_warm"])
    further = {name: _read_embedding(settings, name, split)[1]["fingerprint"] for name in settings.modalities}
    return (
        {
            "path": settings.dataset,
            "split": settings.split,
            "fingerprint": split["fingerprint"],
            "embedding": settings.embedding,
            "embedding_fingerprint": None if embedding is None else embedding["fingerprint"],
        }
        | ({"modalities": further} if further else {})
        | ({} if settings.cold_users is None else {"cold_users": settings.cold_users})
    )


def _read_split(settings: SweepSettings) -> dict[str, Any]:
    """Return the manifest of the sweep's split. Raises UserError if there is none."""
    fix = f"run: coldray data split {settings.dataset} --protocol {settings.split}"
    folder = split_folder(settings.dataset, settings.split)
    return read_manifest(folder, f"a split for the sweep {settings.name}", fix)


def _read_embedding(settings: SweepSettings, name: str, split: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return folder and manifest of an embedding. Raises UserError unless it is there and has the items of the split."""
    folder = storage.join(settings.dataset, "embeddings", name)
    fix = f"run: coldray encode {settings.dataset} --name {name}"
    embedding = read_manifest(folder, f"an embedding for the sweep {settings.name}", fix)
    if embedding["count"] < split["num_items"]:
        raise UserError(
            f"{folder}: has vectors of {embedding['count']} items, the split has {split['num_items']}; encode the data "
            "set again"
        )
    return folder, embedding


def _check_size(dim: int, folder: str, size: int, warm: int) -> None:
    """Raise UserError unless an embedding of `size` numbers can be reduced to `dim`."""
    if dim > size or (dim < size and dim > warm):
        least, what = (size, "numbers of a vector") if dim > size else (warm, "warm items to reduce it by")
        raise UserError(
            f"training.encoder.dim: is {dim}, more than the {least} {what} of {folder}; set it to {least} or less"
        )


def notes(settings: SweepSettings) -> list[str]:
    """Return what a person should know of a sweep before it runs."""
    warm = _read_split(settings)["num_warm"]
    beyond = [str(k) for k in settings.k if k > warm]
    if not beyond or not any(method in TRANSFERRING for method in settings.methods):
        return []
    return [f"k: {', '.join(beyond)}: above the {warm} warm items; all of them are taken as neighbours"]


def sweep_record(settings: SweepSettings, cells: list[Cell]) -> dict[str, Any]:
    """Return the content of sweep.json: what is to be run."""
    entries = [cell.entry() for cell in cells]
    record = {
        "format": 1,
        "name": settings.name,
        "dataset": cells[0].data,
        "baseline": settings.baseline,
        "cells": entries,
    }
    identity = {key: value for key, value in record.items() if key != "dataset"}
    return record | {"sweep_id": digest(identity)}


def check_unchanged(record: dict[str, Any], cells: list[Cell]) -> None:
    """Raise UserError if the data is no longer that of the sweep `record`."""
    then, now = record["dataset"], cells[0].data
    for key in ("fingerprint", "embedding_fingerprint", "modalities"):
        if then.get(key) != now.get(key):
            what = "split" if key == "fingerprint" else "embedding"
            raise UserError(
                f"{now['path']}: its {what} has changed since the sweep {record['name']} began "
                f"({then.get(key)} then, {now.get(key)} now); restore it, or run the sweep anew"
            )
