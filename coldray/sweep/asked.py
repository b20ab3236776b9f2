"""The checked reading of what methods that ask a language model, and searches for settings, leave in MLflow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from coldray.settings import Settings
from coldray.sweep import artifacts as a
from coldray.sweep.artifacts import InvalidRunError

_LISTS = ("history", "items", "titles", "evidence", "written")


class TriedSettings(Settings):
    """Settings that a search tried: what was changed, and the metrics of users whose target was taken out of training."""

    changes: dict[str, float]
    pseudo_cold_ndcg_at_10: float
    pseudo_cold_recall_at_10: float


class SearchSpec(Settings):
    """search.json: the settings that were chosen, and all that were tried."""

    method: a.Method
    users: int
    chosen: dict[str, Any]
    tried: Annotated[tuple[TriedSettings, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Asked:
    """What a run recommended, and what it took."""

    table: pa.Table
    """recommended.parquet, ordered by user id"""
    graph: dict[str, Any] | None
    """graph.json: figures of the graph that was walked"""
    metrics: Mapping[str, float]
    """of the run"""

    @property
    def written(self) -> int:
        """Number of titles that the model wrote."""
        return len(self.table["written"].combine_chunks().flatten())

    @property
    def unknown(self) -> int:
        """Number of these that are in no catalogue."""
        return int(np.sum(self.table["unknown"].to_numpy()))

    def per_user(self, name: str) -> float:
        """Return the mean over users of a column of usage."""
        return float(np.mean(self.table[name].to_numpy()))


def check_asked(folder: Path, metrics: Mapping[str, float], test: a.TestUsers, ranks: a.Int32) -> Asked:
    """Return what a run recommended. Raises InvalidRunError unless it bears out the ranks and the run's metrics."""
    if not (folder / a.RECOMMENDED).exists():
        raise InvalidRunError(f"{a.RECOMMENDED} is missing")
    columns = ["user_id", "target", "unknown", "seconds", *_LISTS, *a.USAGE]
    table = a.read_parquet(folder / a.RECOMMENDED, columns).sort_by("user_id")
    if not table["user_id"].cast(pa.string()).combine_chunks().equals(test.users):
        raise InvalidRunError(f"{a.RECOMMENDED}: its users are not those of {a.RANKS}")
    if not all(pa.types.is_list(table.schema.field(name).type) for name in _LISTS):
        raise InvalidRunError(f"{a.RECOMMENDED}: holds no lists of what was recommended")
    for items, target, rank in zip(table["items"].to_pylist(), test.targets.tolist(), ranks, strict=True):
        if len(items) > a.CUTOFF or len(set(items)) < len(items):
            raise InvalidRunError(f"{a.RECOMMENDED}: a user has more than ten items, or one twice")
        if (items.index(target) + 1 if target in items else 0) != rank:
            raise InvalidRunError(
                f"{a.RECOMMENDED}: a rank of {a.RANKS} is not the place of the user's target"
            )
    graph = None
    if (folder / a.GRAPH).exists():
        graph = a.read_spec((folder / a.GRAPH).read_bytes(), GraphSpec, a.GRAPH).model_dump()
    asked = Asked(table, graph, metrics)
    if asked.written:
        rate, said = asked.unknown / asked.written, metrics.get("hallucination_rate", math.nan)
        if not abs(rate - said) <= 1e-9:
            raise InvalidRunError(
                f"the metric hallucination_rate is {said:.10g}, but {a.RECOMMENDED} gives {rate:.10g}"
            )
    return asked


class GraphSpec(Settings):
    """graph.json: figures of a graph (`coldray.graph.stats.Stats`)."""

    version: int
    items: int
    entities: int
    relations: int
    merged: int
    types: dict[str, int]
    edges: dict[str, int]
    degrees: dict[str, int]
    mean_degree: float
    isolated: int
    components: int
    largest: int
    hubs: tuple[tuple[str, str, int], ...]


def check_search(folder: Path) -> SearchSpec:
    """Return how a run's settings were chosen. Raises InvalidRunError if it does not say."""
    if not (folder / a.SEARCH).exists():
        raise InvalidRunError(f"{a.SEARCH} is missing")
    return a.read_spec((folder / a.SEARCH).read_bytes(), SearchSpec, a.SEARCH)
