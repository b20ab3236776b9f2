"""What a sweep leaves in MLflow: the names, and the checked reading of each file.

Files come from a server that others can write to. They are data to be checked: their size is bounded, nothing
is unpickled, and what is not exactly as it should be is an `InvalidRunError` with the reason.
"""

import csv
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, Field, ValidationError

from coldray.settings import Settings, explain
from coldray.transfer import TransferSettings

SWEEP = "sweep.json"
TASK = "task.json"
EVALUATION = "cold-start-evaluation.csv.gz"
RANKS = "ranks.parquet"
TRANSFER = "transfer.parquet"
SELECTION = "selection.json"
SEARCH = "search.json"
RECOMMENDED = "recommended.parquet"
GRAPH = "graph.json"
OPTIONAL = (TRANSFER, SELECTION, SEARCH, RECOMMENDED, GRAPH)
"""files that only some methods leave"""
SIZE_LIMITS = {SWEEP: 64 << 20, TASK: 1 << 20, EVALUATION: 1 << 20, RANKS: 1 << 30, TRANSFER: 1 << 30} | {
    SELECTION: 16 << 20,
    SEARCH: 1 << 20,
    RECOMMENDED: 1 << 30,
    GRAPH: 1 << 20,
}
"""bytes that a file may have"""
USAGE = ("calls", "prompt_tokens", "completion_tokens")
"""what recommended.parquet says that a user's answers took"""
ROW_LIMIT = 50_000_000

KIND_TAG, NAME_TAG = "coldray.kind", "coldray.name"
SWEEP_TAG, CELL_TAG, METHOD_TAG = "coldray.sweep_id", "coldray.cell_id", "coldray.method"
ERROR_TAG = "coldray.error"
PARENT_TAG, NOTE_TAG, JOB_TAG = "mlflow.parentRunId", "mlflow.note.content", "coldray.ray_job"

CUTOFF = 10
METRICS = ("NDCG@10", "Recall@10", "cold_NDCG@10", "cold_Recall@10", "warm_NDCG@10", "warm_Recall@10")
COUNTS = ("users", "cold_users", "warm_users")

Float = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")]
Method = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+_-]{0,39}$")]


class InvalidRunError(ValueError):
    """A file or a run is not what it should be; the text is the reason, for a reader of the report."""


@dataclass(frozen=True)
class Protocol:
    """One of the four ways in which a model is evaluated."""

    recommend_cold: bool
    """whether cold items are among the candidates"""
    filter_cold: bool
    """whether cold items are removed from the histories"""
    column: str
    """of ranks.parquet"""

    @property
    def label(self) -> str:
        """What the tables call it."""
        candidates = "all items" if self.recommend_cold else "warm items only"
        return f"{candidates}; cold items in histories {'removed' if self.filter_cold else 'kept'}"


PROTOCOLS = (
    Protocol(True, False, "rank_all_kept"),
    Protocol(True, True, "rank_all_removed"),
    Protocol(False, False, "rank_warm_kept"),
    Protocol(False, True, "rank_warm_removed"),
)
HEADLINE = PROTOCOLS[0]


class DatasetSpec(Settings):
    """The data that every cell of a sweep works on."""

    path: str
    split: str
    fingerprint: Hex
    embedding: str | None
    embedding_fingerprint: Hex | None
    modalities: dict[Annotated[str, Field(max_length=100)], Hex] = Field(default_factory=dict)
    """fingerprints of further embeddings, by name"""
    cold_users: int | None = None
    """most test users, all with a cold target; None: all test users"""


class CellSpec(Settings):
    """One trial: a method with its settings, and a seed."""

    cell_id: Hex
    method: Method
    seed: int
    k: int | None
    model: dict[str, Any]
    training: dict[str, Any] | None
    transfer: dict[str, Any] | None
    selection: dict[str, Any] | None = None
    content: dict[str, Any] | None = None
    question: dict[str, Any] | None = None
    varied: Annotated[str, Field(max_length=100)] = ""

    @property
    def label(self) -> str:
        """What runs and lists call it."""
        return f"{self.variant} seed={self.seed}"

    @property
    def variant(self) -> str:
        """What tables call it."""
        return variant_label(self.method, self.k, self.varied)


class SweepSpec(Settings):
    """sweep.json: what was to be run."""

    format: Literal[1]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    sweep_id: Hex
    dataset: DatasetSpec
    baseline: Method
    """"best": the best method that is not ColdRAG"""
    cells: tuple[CellSpec, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the cells, ascending."""
        return tuple(sorted({cell.seed for cell in self.cells}))

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The settings in which it is evaluated: the headline alone where only users with a cold target are."""
        return PROTOCOLS if self.dataset.cold_users is None else PROTOCOLS[:1]


def _whole(transfer: dict[str, Any]) -> dict[str, Any]:
    """Return transfer settings with those that are not said. Raises ValidationError, which is a ValueError."""
    return TransferSettings.model_validate(transfer).model_dump(mode="json")


TransferSpec = Annotated[dict[str, Any], AfterValidator(_whole)]
"""settings of a transfer, all of them"""


class TriedSpec(Settings):
    """Transfer settings that were tried, null for none: mean NDCG@10 at each exposure of cold items, and its errors."""

    transfer: TransferSpec | None
    max_delta_norm: float | None
    exposures: tuple[float, ...]
    cold: tuple[float, ...]
    warm: tuple[float, ...]
    errors: tuple[tuple[float, ...], tuple[float, ...]]


class VerdictSpec(Settings):
    """Transfer settings that were tested on other items and users: cold and warm NDCG@10 without and with them, cold
    with exposure alone at the same warm one, and the p values."""

    transfer: TransferSpec
    max_delta_norm: float | None
    before: tuple[float, float]
    after: tuple[float, float]
    exposed: float
    p: tuple[float, float, float]
    helps: bool
    hurts: bool


class SelectionSpec(Settings):
    """selection.json: the transfer that was chosen, null for none, and what led to it."""

    transfer: TransferSpec | None
    max_delta_norm: float | None
    reason: Annotated[str, Field(max_length=1000)]
    before: tuple[float, float] | None
    tried: tuple[TriedSpec, ...]
    finalists: tuple[TriedSpec, ...]
    verdicts: tuple[VerdictSpec, ...]
    users: tuple[tuple[int, int], tuple[int, int]]
    alignment: float | None
    seconds: float
    training_seconds: float


class TaskSpec(CellSpec):
    """task.json: what a run says it ran."""

    dataset: DatasetSpec
    sweep_id: Hex
    run_id: Hex
    backbone_id: str | None


@dataclass(frozen=True)
class TestUsers:
    """Whom a run was evaluated on, ordered by user id; the same for every run of a sweep."""

    __test__ = False  # not a test, whatever pytest makes of the name

    users: pa.Array
    """[n] string, distinct"""
    targets: Int32
    """[n] item index"""
    cold: npt.NDArray[np.bool_]
    """[n] whether the target is cold"""
    train_counts: npt.NDArray[np.int64]
    """[n] training interactions of the target"""

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class ColdItems:
    """What a run transferred to the cold items."""

    items: Int32
    """[n] item index, distinct"""
    gates: npt.NDArray[np.float32]
    """[n] share of the transferred residual"""
    similarities: npt.NDArray[np.float32]
    """[n] cosine of the nearest warm item"""


S = TypeVar("S", bound=Settings)


def variant_label(method: str, k: int | None, varied: str = "") -> str:
    """Return what tables and runs call a method with its neighbourhood size, or the setting that an analysis varies."""
    return " ".join(filter(None, (method, "" if k is None else f"K={k}", varied)))


def metric_key(metric: str) -> str:
    """Return the name that MLflow has for a metric: `cold_NDCG@10` is `cold_ndcg_at_10`."""
    return metric.lower().replace("@", "_at_")


def user_gains(ranks: Int32, metric: str) -> Float:
    """Return [n] what each user adds to a metric: 1 or 1 / log2(rank + 1) in the first ten ranks, else 0.

    `ranks` [n] counts from 1; 0 means that the target was no candidate. Paper equations 16 and 17, written
    anew here: a check of recorded metrics must not share the code that recorded them.
    """
    hit = (ranks >= 1) & (ranks <= CUTOFF)
    if metric.endswith("Recall@10"):
        return hit.astype(np.float64)
    return np.where(hit, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)


def metric_users(metric: str, cold: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return [n] which users a metric is the mean over: all, those with a cold target, or the others."""
    if metric.startswith("cold_"):
        return cold
    return ~cold if metric.startswith("warm_") else np.ones_like(cold)


def read_spec(data: bytes, kind: type[S], name: str) -> S:
    """Return the JSON `data` as a model of `kind`. Raises InvalidRunError."""
    try:
        return kind.model_validate(json.loads(data))
    except ValidationError as error:
        raise InvalidRunError(f"{name}: {explain(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRunError(f"{name}: is not JSON ({error})") from error


def read_evaluation(
    path: Path, protocols: tuple[Protocol, ...] = PROTOCOLS
) -> dict[Protocol, dict[str, float]]:
    """Return per protocol the metrics and counts of a cold-start-evaluation.csv.gz, which has those of `protocols`.

    Raises InvalidRunError.
    """
    try:
        with gzip.open(path) as stream:
            data = stream.read(SIZE_LIMITS[EVALUATION] + 1)
        rows = list(csv.DictReader(io.StringIO(data[: SIZE_LIMITS[EVALUATION]].decode())))
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise InvalidRunError(f"{EVALUATION}: cannot be read ({error})") from error
    if len(rows) != len(protocols):
        raise InvalidRunError(
            f"{EVALUATION}: has {len(rows)} rows, not one for each of the {len(protocols)} settings"
        )
    found: dict[Protocol, dict[str, float]] = {}
    for row in rows:
        protocol = _row_protocol(row)
        if protocol in found:
            raise InvalidRunError(f"{EVALUATION}: two rows for the setting {protocol.label}")
        found[protocol] = {name: _number(row, name) for name in (*METRICS, *COUNTS)}
    return found


def read_ranks(path: Path) -> tuple[TestUsers, dict[str, Int32]]:
    """Return the users of a ranks.parquet, ordered, and per column [n] the ranks of their targets.

    Raises InvalidRunError.
    """
    columns = [protocol.column for protocol in PROTOCOLS]
    table = read_parquet(path, ["user_id", "target", "cold", "train_count", *columns]).sort_by("user_id")
    users = table["user_id"].cast(pa.string()).combine_chunks()
    if len(users.unique()) != len(users):
        raise InvalidRunError(f"{RANKS}: a user has two rows")
    ranks = {name: _integers(table, name, np.int32) for name in columns}
    if any((rank < 0).any() for rank in ranks.values()):
        raise InvalidRunError(f"{RANKS}: has a negative rank")
    return TestUsers(
        users=users,
        targets=_integers(table, "target", np.int32),
        cold=table["cold"].to_numpy().astype(np.bool_),
        train_counts=_integers(table, "train_count", np.int64),
    ), ranks


def read_transfer(path: Path) -> ColdItems:
    """Return what a transfer.parquet says of the cold items.

    Raises InvalidRunError unless all gates are in 0..1, all similarities in -1..1 and all items distinct.
    """
    table = read_parquet(path, ["item_id", "item", "gate", "max_similarity"])
    columns = {}
    for name, low in (("gate", 0.0), ("max_similarity", -1.0)):
        if not pa.types.is_floating(table.schema.field(name).type):
            raise InvalidRunError(f"{TRANSFER}: the column {name} holds no floating point numbers")
        columns[name] = values = table[name].to_numpy().astype(np.float32)
        if not ((values >= low - 1e-5) & (values <= 1 + 1e-5)).all():
            raise InvalidRunError(f"{TRANSFER}: a {name} is not between {low:g} and 1")
    items = _integers(table, "item", np.int32)
    if len(np.unique(items)) < len(items):
        raise InvalidRunError(f"{TRANSFER}: has an item twice")
    return ColdItems(items, columns["gate"], columns["max_similarity"])


def read_parquet(path: Path, columns: list[str]) -> pa.Table:
    """Return columns without nulls of a Parquet file of bounded length."""
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise InvalidRunError(f"{path.name}: has no column {missing[0]}")
            if file.metadata.num_rows > ROW_LIMIT:
                raise InvalidRunError(
                    f"{path.name}: has {file.metadata.num_rows} rows, more than {ROW_LIMIT}"
                )
            table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InvalidRunError(
            f"{path.name}: cannot be read as Parquet ({' '.join(str(error).split())})"
        ) from error
    for name in columns:
        if table[name].null_count:
            raise InvalidRunError(f"{path.name}: the column {name} has empty places")
    return table


def _integers(table: pa.Table, name: str, kind: Any) -> Any:
    if not pa.types.is_integer(table.schema.field(name).type):
        raise InvalidRunError(f"{RANKS}: the column {name} holds no integers")
    return table[name].to_numpy().astype(kind)


def _row_protocol(row: dict[str, str]) -> Protocol:
    said = (row.get("recommend-cold-items"), row.get("filter-cold-items"))
    for protocol in PROTOCOLS:
        if said == (str(protocol.recommend_cold), str(protocol.filter_cold)):
            return protocol
    raise InvalidRunError(
        f"{EVALUATION}: a row says {said}, not True or False, for what is recommended and removed"
    )


def _number(row: dict[str, str], name: str) -> float:
    text = row.get(name)
    if text is None:
        raise InvalidRunError(f"{EVALUATION}: has no column {name}")
    try:
        return float(text) if text else float("nan")
    except ValueError as error:
        raise InvalidRunError(f"{EVALUATION}: {name} is {text!r:.40}, not a number") from error
