"""Read a sweep back from MLflow, and say of every run whether it may enter a table.

What is known of a sweep is what the server has: no file of the machine that ran it is needed. A run counts
only if everything about it is as the sweep says it should be; the others are listed with the reason, none
is dropped.
"""

import hashlib
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests.exceptions import RequestException

from coldray.errors import UserError
from coldray.sweep import artifacts as a
from coldray.sweep.artifacts import InvalidRunError
from coldray.sweep.asked import Asked, SearchSpec, check_asked, check_search
from coldray.sweep.tracking import reaching, search_runs

TOLERANCE = 1e-9
THREADS = 8
_RUN_ID = re.compile(r"^[0-9a-f]{32}$")


@dataclass(frozen=True)
class RunRecord:
    """A child run as the server has it."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    folder: Path
    """with those of its artifacts that could be fetched"""
    problem: str = ""
    """why an artifact could not be fetched"""


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as the server has it; its files last as long as the context of `read_sweep`."""

    uri: str
    run_id: str
    status: str
    spec: a.SweepSpec
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True)
class CellResult:
    """A run that may enter a table."""

    run_id: str
    cell: a.CellSpec
    values: Mapping[a.Protocol, Mapping[str, float]]
    """metrics and counts"""
    ranks: a.Int32
    """[n] of each user's target, in the headline setting"""
    test: a.TestUsers
    cold_items: a.ColdItems | None
    """None without transfer"""
    seconds: float
    """NaN where the run does not say"""
    selection: a.SelectionSpec | None = None
    """of a method that chooses its transfer"""
    asked: Asked | None = None
    """of a method that asks a language model"""
    search: SearchSpec | None = None
    """of a method whose settings were searched for"""


class LeftOut(NamedTuple):
    """A run, or a cell without one, that may not enter a table."""

    run_id: str
    """empty for a cell that has no run"""
    cell: str
    reason: str


@contextmanager
def read_sweep(uri: str, sweep: str | None = None) -> Iterator[SweepRecord]:
    """Yield a sweep of the server at `uri`: the newest whose name, sweep id or run id is `sweep`, or of all.

    Raises UserError when there is none, or when its sweep.json is not as it should be, ServiceError when the
    server does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="coldray-sweep-") as folder:
        with reaching(uri), ThreadPoolExecutor(THREADS) as pool:
            parent, spec = find_sweep(uri, sweep)
            records = tuple(pool.map(partial(_read_run, uri, Path(folder)), cells_of(uri, parent)))
        yield SweepRecord(uri, str(parent.info.run_id), parent.info.status, spec, records)


def find_sweep(uri: str, sweep: str | None) -> tuple[Run, a.SweepSpec]:
    """Return the run of a sweep and its specification; what is raised is said at `read_sweep`."""
    parent = _find_sweep(MlflowClient(uri), uri, sweep)
    run_id = _safe_id(parent)
    with tempfile.TemporaryDirectory(prefix="coldray-sweep-") as folder:
        home = Path(folder) / run_id
        if problem := _fetch(uri, parent, (a.SWEEP,), home):
            raise UserError(f"{uri}: run {run_id}: {problem}; it is no whole sweep")
        try:
            return parent, a.read_spec((home / a.SWEEP).read_bytes(), a.SweepSpec, a.SWEEP)
        except InvalidRunError as error:
            raise UserError(f"{uri}: run {run_id}: {error}") from error


def cells_of(uri: str, parent: Run) -> list[Run]:
    """Return the runs of a sweep's cells, newest first."""
    where = f"tags.\"{a.PARENT_TAG}\" = '{_safe_id(parent)}'"
    return search_runs(MlflowClient(uri), [parent.info.experiment_id], where)


def validate(record: SweepRecord) -> tuple[list[CellResult], list[LeftOut]]:
    """Return the results that may enter a table, in the order of the sweep's cells, and what may not.

    A result counts if its run is finished, says that it ran the expected cell on the expected data, has
    four finite rows that its ranks bear out to 1e-9, was evaluated on the users that most runs were
    evaluated on, and is the only one of its cell.
    """
    cells = {cell.cell_id: cell for cell in record.spec.cells}
    left_out: list[LeftOut] = []
    results: list[CellResult] = []
    known: dict[str, a.TestUsers] = {}
    for run in record.runs:
        cell = cells.get(run.tags.get(a.CELL_TAG, ""))
        try:
            results.append(_check_run(run, cell, record.spec, known))
        except InvalidRunError as error:
            label = cell.label if cell else run.tags.get("mlflow.runName", "")
            left_out.append(LeftOut(run.run_id, label, str(error)))
    results, other_users = _same_users(results)
    results, duplicates = _one_per_cell(results)
    seen = {run.tags.get(a.CELL_TAG) for run in record.runs}
    missing = [LeftOut("", cell.label, "has no run") for cell in cells.values() if cell.cell_id not in seen]
    order = {cell_id: position for position, cell_id in enumerate(cells)}
    results.sort(key=lambda result: order[result.cell.cell_id])
    return results, [*left_out, *other_users, *duplicates, *missing]


def _find_sweep(client: MlflowClient, uri: str, wanted: str | None) -> Run:
    """Return the newest parent run that is meant. Compared here: a name never enters a query."""
    experiments: list[str] = []
    token = None
    while True:
        page = client.search_experiments(max_results=1000, page_token=token)
        experiments.extend(experiment.experiment_id for experiment in page)
        token = page.token
        if not token:
            break
    parents = search_runs(client, experiments, f"tags.\"{a.KIND_TAG}\" = 'sweep'")
    for run in parents:
        names = (run.data.tags.get(a.NAME_TAG), run.data.tags.get(a.SWEEP_TAG), run.info.run_id)
        if wanted is None or wanted in names:
            return run
    there = ", ".join(sorted({str(run.data.tags.get(a.NAME_TAG)) for run in parents})) or "none"
    raise UserError(f"{uri}: has no sweep {wanted or ''}; it has: {there}")


def _safe_id(run: Run) -> str:
    """Return a run's id, which becomes the name of a folder."""
    run_id = str(run.info.run_id)
    if not _RUN_ID.match(run_id):
        raise UserError(f"{run_id!r:.80}: is no run id; the server is no MLflow server")
    return run_id


def _read_run(uri: str, folder: Path, run: Run) -> RunRecord:
    """Return a child run, with its artifacts if it is finished."""
    run_id = _safe_id(run)
    record = RunRecord(
        run_id, run.info.status, run.data.tags, run.data.params, run.data.metrics, folder / run_id
    )
    if record.status != "FINISHED":
        return record
    names = (a.TASK, a.EVALUATION, a.RANKS, *a.OPTIONAL)
    return replace(record, problem=_fetch(uri, run, names, record.folder))


def _fetch(uri: str, run: Run, names: tuple[str, ...], folder: Path) -> str:
    """Fetch a run's files to `folder` by fixed names; return why they cannot be had, or nothing.

    One request a file: `download_artifacts` would ask three times.
    """
    folder.mkdir()
    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    try:
        listed = {item.path: item for item in repository.list_artifacts()}
        for name in names:
            item = listed.get(name)
            if item is None and name in a.OPTIONAL:
                continue
            if item is None:
                return f"{name} is missing"
            if item.is_dir or (item.file_size or 0) > a.SIZE_LIMITS[name]:
                return f"{name} is no file of at most {a.SIZE_LIMITS[name]} bytes"
            repository._download_file(name, str(folder / name))  # type: ignore[no-untyped-call]  # MLflow's
    except (MlflowException, RequestException) as error:
        return f"its files cannot be fetched ({' '.join(str(error).split()):.200})"
    return ""


def _check_run(
    run: RunRecord, cell: a.CellSpec | None, spec: a.SweepSpec, known: dict[str, a.TestUsers]
) -> CellResult:
    """Return the result of a run. Raises InvalidRunError with the first thing that is wrong with it."""
    if run.status != "FINISHED":
        raise InvalidRunError(f"its status is {run.status}, not FINISHED")
    if cell is None:
        raise InvalidRunError("it belongs to no cell of the sweep")
    if run.problem:
        raise InvalidRunError(run.problem)
    _check_task(a.read_spec((run.folder / a.TASK).read_bytes(), a.TaskSpec, a.TASK), run, cell, spec)
    values = a.read_evaluation(run.folder / a.EVALUATION, spec.protocols)
    test, ranks = a.read_ranks(run.folder / a.RANKS)
    for protocol in spec.protocols:
        _check_values(values[protocol], ranks[protocol.column], test, protocol)
    for metric in a.METRICS:
        recorded = run.metrics.get(a.metric_key(metric), math.nan)
        _agree(f"the metric {a.metric_key(metric)}", recorded, a.EVALUATION, values[a.HEADLINE][metric])
    cold_items, selection = None, None
    if cell.selection is not None:
        if not (run.folder / a.SELECTION).exists():
            raise InvalidRunError(f"{a.SELECTION} is missing")
        selection = a.read_spec((run.folder / a.SELECTION).read_bytes(), a.SelectionSpec, a.SELECTION)
    if cell.transfer is not None or (selection is not None and selection.transfer is not None):
        if not (run.folder / a.TRANSFER).exists():
            raise InvalidRunError(f"{a.TRANSFER} is missing")
        cold_items = a.read_transfer(run.folder / a.TRANSFER)
    shared = known.setdefault(_digest(test), test)
    seconds = run.metrics.get("seconds", math.nan)
    headline = ranks[a.HEADLINE.column]
    asked = None if cell.question is None else check_asked(run.folder, run.metrics, shared, headline)
    search = check_search(run.folder) if (cell.content or {}).get("search") else None
    return CellResult(
        run.run_id, cell, values, headline, shared, cold_items, seconds, selection, asked, search
    )


def _check_task(task: a.TaskSpec, run: RunRecord, cell: a.CellSpec, spec: a.SweepSpec) -> None:
    """Raise InvalidRunError unless what a run says it ran is the expected cell."""
    if task.seed not in spec.seeds:
        seeds = ", ".join(map(str, spec.seeds))
        raise InvalidRunError(f"its seed {task.seed} is not one of the sweep's, {seeds}")
    expected: dict[str, Any] = {"run_id": run.run_id, "sweep_id": spec.sweep_id}
    expected |= {"dataset": spec.dataset.model_dump()} | cell.model_dump()
    said = task.model_dump(exclude={"backbone_id"})
    _same(said, expected, f"{a.TASK}: ")
    params = {"method": cell.method, "seed": str(cell.seed)}
    params |= {} if cell.k is None else {"k": str(cell.k)}
    _same({name: run.params.get(name) for name in params}, params, "the params: ")
    if cell.k is None and "k" in run.params:
        raise InvalidRunError(f"the params: k is {run.params['k']}, the cell has none")


def _same(said: Any, expected: Any, place: str) -> None:
    """Raise InvalidRunError naming the first key whose value is not the expected one."""
    if isinstance(said, Mapping) and isinstance(expected, Mapping):
        for key in sorted({*said, *expected}):
            inner = f"{place}{'' if place.endswith(' ') else '.'}{key}"
            _same(said.get(key), expected.get(key), inner)
    elif said != expected:
        raise InvalidRunError(f"{place} is {json.dumps(said):.120}, expected {json.dumps(expected):.120}")


def _check_values(
    values: Mapping[str, float], ranks: a.Int32, test: a.TestUsers, protocol: a.Protocol
) -> None:
    """Raise InvalidRunError unless a row of the evaluation is finite and is what the ranks give."""
    counts = {"users": len(test), "cold_users": int(test.cold.sum()), "warm_users": int((~test.cold).sum())}
    for name, count in counts.items():
        _agree(f"{a.EVALUATION}: {name} ({protocol.label})", values[name], a.RANKS, count)
    for metric in a.METRICS:
        chosen = a.metric_users(metric, test.cold)
        value = float(a.user_gains(ranks[chosen], metric).mean()) if chosen.any() else math.nan
        _agree(f"{a.EVALUATION}: {metric} ({protocol.label})", values[metric], a.RANKS, value)


def _agree(name: str, value: float, source: str, expected: float) -> None:
    """Raise InvalidRunError unless two numbers are equal to 1e-9, or neither is one."""
    if math.isnan(expected) and math.isnan(value):
        return
    if not abs(value - expected) <= TOLERANCE:
        raise InvalidRunError(f"{name} is {value:.10g}, but {source} gives {expected:.10g}")


def _digest(test: a.TestUsers) -> str:
    hashed = hashlib.sha256(json.dumps(test.users.to_pylist()).encode())
    for array in (test.targets, test.cold, test.train_counts):
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def _same_users(results: list[CellResult]) -> tuple[list[CellResult], list[LeftOut]]:
    """Keep the results on the users that most have: `validate` shares one object between equal ones."""
    if not results:
        return [], []
    common = Counter(id(result.test) for result in results).most_common(1)[0][0]
    kept = [result for result in results if id(result.test) == common]
    reason = f"{a.RANKS}: its users or targets are not those of the sweep's other runs"
    return kept, [LeftOut(r.run_id, r.cell.label, reason) for r in results if id(r.test) != common]


def _one_per_cell(results: list[CellResult]) -> tuple[list[CellResult], list[LeftOut]]:
    """Keep the cells with one result: which of several is meant, nobody but the user can say."""
    count = Counter(result.cell.cell_id for result in results)
    kept = [result for result in results if count[result.cell.cell_id] == 1]
    others = [result for result in results if count[result.cell.cell_id] > 1]
    reason = "is one of {} results of its cell; delete the others"
    return kept, [LeftOut(r.run_id, r.cell.label, reason.format(count[r.cell.cell_id])) for r in others]
