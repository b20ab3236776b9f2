"""Recommends with what a sweep trained: SASRec, and for cold items what was transferred to them. Behind the same API."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldray.data.dataset import Sequences
from coldray.errors import UserError
from coldray.evaluation.ranking import top_items
from coldray.retrieval.result import Anchor, Node, Recommendation, RecommendedItem, Spent
from coldray.serving.problems import ProblemError
from coldray.serving.settings import SASRec
from coldray.sweep.grid import Cell, make_cells
from coldray.sweep.recommend import pick_cell, titles_of
from coldray.sweep.run import load_sweep
from coldray.sweep.server import database_of
from coldray.sweep.tracking import cell_of_run
from coldray.sweep.work import Workspace

_NO_GRAPH = "this service recommends from sequences and has no graph"


def find_cell(settings: SASRec) -> tuple[Workspace, Cell]:
    """Return the cell to serve, and where its results are. Raises UserError if there is none, or it has not been run."""
    sweep, _ = load_sweep(settings.runs, settings.sweep)
    workspace = Workspace(sweep.dataset, settings.runs, share_backbones=sweep.share_backbones)
    if settings.run is None:
        return workspace, pick_cell(sweep)
    wanted = settings.run
    if re.fullmatch("[0-9a-f]{32}", wanted):
        wanted = cell_of_run(settings.tracking_uri or database_of(settings.runs), wanted)
    for cell in make_cells(sweep):
        if cell.cell_id == wanted:
            return workspace, cell
    raise UserError(
        f"run {settings.run}: is no run of the sweep {settings.sweep}; coldray sweep report lists them"
    )


class SequenceRecommender:
    """A backend of the API over one trained model."""

    def __init__(self, settings: SASRec) -> None:
        workspace, self.cell = find_cell(settings)
        self.scorer, self.split = workspace.scorer(self.cell)
        titles = titles_of(workspace.dataset, self.split.item_ids).get("title", self.split.item_ids)
        self.titles = pc.fill_null(titles, "")
        self._lower = pc.utf8_lower(self.titles)

    async def recommend(self, history: list[str], k: int, changes: dict[str, Any]) -> bytes:
        """Return a recommendation as JSON; there is no evidence, and nothing of `changes` applies."""
        return (await asyncio.to_thread(self._recommend, history, k)).model_dump_json().encode()

    async def stream(
        self, history: list[str], k: int, changes: dict[str, Any]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the recommendation."""
        found = await asyncio.to_thread(self._recommend, history, k)
        yield "recommendation", found.model_dump(mode="json")

    def _recommend(self, history: list[str], k: int) -> Recommendation:
        rows = self._rows(history)
        known = [(given, row) for given, row in zip(history, rows, strict=True) if row is not None]
        items = np.array([row + 1 for _, row in known], np.int32)
        asked = Sequences(pa.array([""]), np.array([0, len(items)]), items)
        found, scores = top_items(self.scorer, asked, k)
        chosen = [
            (int(item) - 1, float(score)) for item, score in zip(found[0], scores[0], strict=True) if item
        ]
        return Recommendation(
            items=[
                RecommendedItem(item_id=node.item_id or "", title=node.name, score=score)
                for node, (_, score) in zip(self._nodes([row for row, _ in chosen]), chosen, strict=True)
            ],
            anchors=[
                Anchor(given=given, node=node, similarity=1)
                for (given, _), node in zip(known, self._nodes([row for _, row in known]), strict=True)
            ],
            unknown=[given for given, row in zip(history, rows, strict=True) if row is None],
            hops=[],
            stopped="no walk",
            fallback=""
            if known
            else "nothing of the history is known to the model: these fit nobody in particular",
            spent=Spent(),
            graph_version=0,
        )

    def _rows(self, history: list[str]) -> list[int | None]:
        """Return the row of each entry, by id or by title; None of one that is not there."""
        texts = pa.array(history, pa.string())
        by_id = pc.index_in(texts, value_set=self.split.item_ids)
        by_title = pc.index_in(pc.utf8_lower(texts), value_set=self._lower)
        rows: list[int | None] = pc.coalesce(by_id, by_title).to_pylist()
        return rows

    def _nodes(self, rows: list[int]) -> list[Node]:
        places = pa.array(rows, pa.int64())
        ids, titles = self.split.item_ids.take(places).to_pylist(), self.titles.take(places).to_pylist()
        return [
            Node(id=item, type="item", name=title or item, item_id=item)
            for item, title in zip(ids, titles, strict=True)
        ]

    async def find(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Return items by a part of their titles, short titles first."""
        rows = pc.indices_nonzero(pc.match_substring(self._lower, query.strip().lower())).to_pylist()
        nodes = sorted(self._nodes(rows), key=lambda node: (len(node.name), node.name))[:limit]
        return [{"item_id": node.item_id, "title": node.name} for node in nodes]

    async def item(self, item_id: str) -> dict[str, Any]:
        """Return an item; there is no profile of it."""
        (row,) = pc.index_in(pa.array([item_id]), value_set=self.split.item_ids).to_pylist()
        if row is None:
            raise ProblemError(404, f"{item_id}: is no item of the catalogue")
        return {"item_id": item_id, "title": self._nodes([row])[0].name, "profile": ""}

    async def around(self, item_id: str) -> dict[str, Any]:
        """Say that there is no graph."""
        raise ProblemError(404, _NO_GRAPH)

    async def put(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Say that items cannot be added."""
        raise ProblemError(409, f"{_NO_GRAPH}: new items come with the next sweep")

    async def delete(self, item_id: str) -> dict[str, Any]:
        """Say that items cannot be removed."""
        raise ProblemError(409, f"{_NO_GRAPH}: items go with the next sweep")

    async def status(self) -> dict[str, Any]:
        """Return what is served."""
        return {
            "engine": "sasrec",
            "graph_version": 0,
            "items": self.split.num_items,
            "entities": 0,
            "relations": 0,
            "store": "reachable",
            "llm": "none",
            "scorers": [],
            "rankers": [],
            "default": {"method": self.cell.method, "cell": self.cell.cell_id},
        }
