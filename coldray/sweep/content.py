"""Cells of the baselines that map content to recommendations: their settings chosen, trained, kept."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from pydantic import ValidationError

from coldray import storage
from coldray.data.dataset import Split
from coldray.data.pseudo_cold import pseudo_cold_split
from coldray.errors import UserError
from coldray.evaluation import Scorer
from coldray.settings import explain
from coldray.sweep import artifacts as a
from coldray.sweep.grid import Cell
from coldray.training.content import (
    KINDS,
    ContentSettings,
    Report,
    fit,
    load_weights,
    make_model,
    save_weights,
    validation,
)

WEIGHTS = "model.safetensors"
PSEUDO_COLD = 0.1
"""of the warm items, on which settings are chosen"""
Floats = npt.NDArray[np.float32]


def train_content(
    cell: Cell, split: Split, embedding: Floats, folders: Callable[[str, str], str], device: torch.device
) -> Iterator[Report]:
    """Choose the settings of a cell where it searches, and train its model; yield the report of each epoch.

    `folders` gives where what has a kind and an id is kept. What is there already is not made again. A search counts its
    epochs under "probe", the number of the settings that are tried.
    """
    settings = cell.content
    if settings is None:
        raise ValueError(f"{cell.method} maps no content")
    if cell.search_id is not None:
        settings = yield from _search(cell, split, embedding, folders("searches", cell.search_id), device)
    target = storage.join(folders("content", cell.cell_id), WEIGHTS)
    if storage.exists(target):
        return
    model = make_model(cell.method, embedding, split.num_warm, settings, cell.seed)
    for _, report in fit(model, split, cell.seed, device):
        yield report
    save_weights(model, target)


def content_scorer(
    cell: Cell, split: Split, embedding: Floats, folders: Callable[[str, str], str], device: torch.device
) -> Scorer:
    """Return what ranks the catalogue for a cell that has been trained."""
    settings = cell.content
    if settings is None:
        raise ValueError(f"{cell.method} maps no content")
    if cell.search_id is not None:
        settings = chosen(cell, folders("searches", cell.search_id))
    model = make_model(cell.method, embedding, split.num_warm, settings, cell.seed).to(device)
    load_weights(model, storage.join(folders("content", cell.cell_id), WEIGHTS))
    scorer: Scorer = model.scorer()
    return scorer


def chosen(cell: Cell, folder: str) -> ContentSettings:
    """Return the settings that a search in `folder` chose. Raises UserError for a file that is not ours."""
    record = storage.read_json(storage.join(folder, a.SEARCH))
    try:
        settings: ContentSettings = KINDS[cell.method][1].model_validate(record["chosen"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}/{a.SEARCH}: is no search; delete it and run again") from error
    except ValidationError as error:
        raise UserError(f"{folder}/{a.SEARCH}: {explain(error)}; delete it and run again") from error
    return settings


def _search(
    cell: Cell, split: Split, embedding: Floats, folder: str, device: torch.device
) -> Generator[Report, None, ContentSettings]:
    """Return the best of what the paper tunes: by NDCG@10 of users whose target was taken out of training, too.

    Neither a cold item nor a test user has a part in it, and all seeds share the choice.
    """
    if storage.exists(storage.join(folder, a.SEARCH)):
        return chosen(cell, folder)
    inner = pseudo_cold_split(split, PSEUDO_COLD, 0)
    rows = pc.index_in(inner.item_ids, value_set=split.item_ids).to_numpy() + 1
    vectors = embedding[np.concatenate([[0], rows])]
    users = inner.test.take(np.flatnonzero(np.asarray(inner.test.targets) > inner.num_warm))
    given = cell.content
    tried: list[dict[str, Any]] = []
    for number, changes in enumerate(KINDS[cell.method][2]):
        settings = KINDS[cell.method][1].model_validate(
            {**({} if given is None else given.model_dump()), **changes}
        )
        model = make_model(cell.method, vectors, inner.num_warm, settings, 0)
        for _, report in fit(model, inner, 0, device):
            yield report | {"probe": float(number)}
        metrics = validation(model.scorer(), users, inner.num_warm)
        names = {"pseudo_cold_ndcg_at_10": "validation_ndcg_at_10"}
        names |= {"pseudo_cold_recall_at_10": "validation_recall_at_10"}
        tried.append({"changes": changes, "settings": settings.model_dump(mode="json")})
        tried[-1] |= {name: metrics[of] for name, of in names.items()}
    best = max(tried, key=lambda entry: float(entry["pseudo_cold_ndcg_at_10"]))
    record = {"method": cell.method, "users": len(users), "chosen": best["settings"]}
    record["tried"] = [{key: entry[key] for key in entry if key != "settings"} for entry in tried]
    storage.write_json(storage.join(folder, a.SEARCH), record)
    return chosen(cell, folder)
