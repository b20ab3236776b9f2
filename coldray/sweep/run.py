"""Run a sweep: Ray Tune over its cells, everything in MLflow, the report at the end."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import psutil
import ray
from pydantic import SecretStr, ValidationError
from ray import serve, tune

from coldray import storage
from coldray.errors import ServiceError, UserError
from coldray.llm.settings import VLLM, EngineSettings, Shared
from coldray.llm.shared_engine import deploy
from coldray.settings import explain
from coldray.sweep.config import Resources, SweepSettings
from coldray.sweep.console import SweepConsole, label
from coldray.sweep.grid import Cell, check_unchanged, make_cells, notes, sweep_record
from coldray.sweep.memory import survive_want_of_memory
from coldray.sweep.report import Report, make_report, write_report
from coldray.sweep.search import CellSearch
from coldray.sweep.server import tracking_server
from coldray.sweep.tracking import Tracker
from coldray.sweep.trial import CellTrial, SweepContext
from coldray.sweep.validate import read_sweep

MAX_FAILURES = 3
"""times that a trial is started again after its worker died"""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    run_id: str
    """of the parent run"""
    tracking_uri: str
    finished: int
    """cells with a result in MLflow"""
    failed: dict[str, str]
    """why, by the label of the cell"""
    report: Report
    report_folder: str


def sweep_folder(runs: str, name: str) -> str:
    """Return where a sweep's settings and record are kept."""
    return storage.join(runs, "sweeps", name)


def load_sweep(runs: str, name: str) -> tuple[SweepSettings, dict[str, Any]]:
    """Return the settings and the record of a sweep that has been started.

    Raises UserError if there is none of that name, or the data has changed since.
    """
    folder = sweep_folder(runs, name)
    if not storage.exists(storage.join(folder, "sweep.json")):
        raise UserError(f"{runs}: has no sweep {name}; start it with coldray sweep run FILE")
    try:
        settings = SweepSettings.model_validate(storage.read_json(storage.join(folder, "settings.json")))
    except ValidationError as error:
        raise UserError(f"{folder}/settings.json: {explain(error)}") from error
    return settings, storage.read_json(storage.join(folder, "sweep.json"))


def run_sweep(
    settings: SweepSettings,
    runs: str,
    tracking_uri: str | None = None,
    *,
    address: str | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    key: SecretStr | None = None,
) -> Outcome:
    """Run what is left of a sweep and return how it ended.

    `runs` is the folder or URI for backbones, results and, without a `tracking_uri`, MLflow's database. Cells that
    have been finished are not run again. Raises UserError for data that is missing or, to be resumed, has changed.
    """
    cells = make_cells(settings)
    record = _recorded(settings, runs, cells, resume)
    for note in notes(settings):
        say(f"warning: {note}")
    with (
        tracking_server(tracking_uri, storage.join(runs, "mlflow")) as uri,
        cluster(address, settings) as dashboard,
    ):
        _check_reach(uri)
        tracker = Tracker(uri, settings.name)
        parent = tracker.start_sweep(record, _job_page(dashboard))
        finished = tracker.finished_cells(parent)
        left = [cell for cell in cells if cell.cell_id not in finished]
        progress = f"{len(left)} of {len(cells)} cells to run"
        say(
            f"sweep {settings.name}: {progress}; MLflow {tracker.page(parent)}; Ray dashboard {dashboard or 'off'}"
        )
        context = SweepContext(
            sweep_id=record["sweep_id"],
            experiment=settings.name,
            tracking_uri=uri,
            parent_run_id=parent,
            dataset=storage.absolute(settings.dataset),
            runs=storage.absolute(runs),
            share_backbones=settings.share_backbones,
            resources=settings.resources,
            key=key,
        )
        failed: dict[str, str] = {}
        status = "KILLED"
        try:
            with language_model(settings if any(cell.question for cell in left) else None, say) as llm:
                console = SweepConsole(settings.name, len(cells), len(finished))
                failed = _tune(left, replace(context, llm=llm), console) if left else {}
            status = "FAILED" if failed else "FINISHED"
        finally:
            tracker.finish_sweep(parent, status)
        target = _report_folder(runs, record["sweep_id"])
        report = _report(uri, parent, target)
        return Outcome(parent, uri, len(tracker.finished_cells(parent)), failed, report, target)


def _check_reach(uri: str) -> None:
    """Raise UserError if MLflow at `uri` listens on loopback and the cluster has other machines, whose trials need it."""
    if urlsplit(uri).hostname not in ("127.0.0.1", "localhost", "::1"):
        return
    own = {address.address for of in psutil.net_if_addrs().values() for address in of}
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # not typed in Ray
    others = sorted({node["NodeManagerAddress"] for node in nodes if node["Alive"]} - own)
    if others:
        raise UserError(
            f"{uri}: MLflow is on this machine alone, and trials on {', '.join(others)} need it; give --tracking-uri or "
            "MLFLOW_TRACKING_URI, as coldray cluster up --host does"
        )


def _job_page(dashboard: str) -> str:
    """Return the page of the job that this process is, "" without a dashboard."""
    return f"{dashboard}/#/jobs/{ray.get_runtime_context().get_job_id()}" if dashboard else ""


def _recorded(settings: SweepSettings, runs: str, cells: list[Cell], resume: bool) -> dict[str, Any]:
    """Write down what is to be run, and return it. Raises UserError where it is resumed and its data has changed."""
    record, folder = sweep_record(settings, cells), sweep_folder(runs, settings.name)
    if resume:
        check_unchanged(storage.read_json(storage.join(folder, "sweep.json")), cells)
    plain = settings.model_dump(mode="json", exclude_unset=True)
    storage.write_json(storage.join(folder, "settings.json"), plain)
    storage.write_json(storage.join(folder, "sweep.json"), record)
    return record


def _report(uri: str, parent: str, folder: str) -> Report:
    """Read the sweep back from MLflow, and write what it found."""
    with read_sweep(uri, parent) as results:
        report = make_report(results)
        write_report(report, folder)
    return report


def _report_folder(runs: str, sweep_id: str) -> str:
    """Return the local folder for a report; where `runs` is a bucket the copy in MLflow is the one that lasts."""
    return storage.join("reports" if "://" in runs else storage.join(runs, "reports"), sweep_id)


def _tune(cells: list[Cell], context: SweepContext, console: SweepConsole) -> dict[str, str]:
    """Run the cells as trials and return why those that failed did, by label."""
    survive_want_of_memory()
    search = CellSearch(cells, context.share_backbones)
    resources = {"cpu": context.resources.cpus, "gpu": context.resources.gpus}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(CellTrial, context=context), resources),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=len(cells),
            max_concurrent_trials=_at_once(context.resources),
            reuse_actors=True,
            trial_name_creator=lambda trial: label(trial.config["cell"]),
            trial_dirname_creator=lambda trial: trial.config["cell"].cell_id,
        ),
        run_config=tune.RunConfig(
            name=f"{context.experiment}-{context.sweep_id}",
            storage_path=storage.join(context.runs, "tune"),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[console],
            verbose=0,
        ),
    )
    with console:
        tuner.fit()
    never = {
        label(cell): "what it shares with other cells could not be trained"
        for cell in cells
        if search.state(cell) == "broken"
    }
    failed = never | console.failed
    if console.completed + len(failed) < len(cells):
        raise KeyboardInterrupt  # Tune takes the signal itself, stops its trials and returns
    return failed


@contextmanager
def language_model(
    settings: SweepSettings | None, say: Callable[[str], None]
) -> Iterator[EngineSettings | None]:
    """Yield what trials ask: an address as it is, a model on vLLM as one application on Ray Serve that all of them share.

    Nothing is started where there is nothing to ask. Raises UserError where the cluster has no room for the model.
    """
    llm = None if settings is None or settings.zeroshot is None else settings.zeroshot.llm
    if settings is None or not isinstance(llm, VLLM):
        yield llm
        return
    app = f"coldray-{settings.name}-llm"
    say(f"loading {llm.model}, which takes from half a minute up")
    deploy(llm, app)
    try:
        yield Shared(app=app, concurrency=llm.concurrency)
    finally:
        serve.delete(app)


@contextmanager
def cluster(address: str | None, settings: SweepSettings) -> Iterator[str]:
    """Connect to the cluster at `address`, or start a Ray here; yield the dashboard's address or "".

    Raises ServiceError if it cannot be reached, UserError if no node could ever run one of the sweep's trials.
    """
    started = not ray.is_initialized()
    dashboard = ""
    if started:
        try:
            context = ray.init(
                # Told of none, Ray would look for the cluster that was started last on this machine.
                address=address or "local",
                include_dashboard=None if address else True,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else ""
            if threading.current_thread() is threading.main_thread():
                # Ray's own handler leaves at once, past what Tune and Serve have to end.
                signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        except ConnectionError as error:
            raise ServiceError(
                f"{address}: no Ray cluster answers there ({error}); start it, or leave --address out"
            ) from error
    try:
        _check_resources(settings)
        yield dashboard
    finally:
        if started:
            ray.shutdown()


def _at_once(wanted: Resources) -> int | None:
    """Return how many trials may run at a time, so that there is room for what each starts; None: as many as fit."""
    if wanted.workers == 1:
        return None
    room = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's
    needed = {"CPU": wanted.cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})}
    return max(
        1, min(int(room.get(name, 0) // (amount * (1 + wanted.workers))) for name, amount in needed.items())
    )


def _check_resources(settings: SweepSettings) -> None:
    needed = {"CPU": settings.resources.cpus, "GPU": settings.resources.gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's
    if any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
        total = {name: sum(node.get(name, 0) for node in nodes) for name in needed}
        times = 1 if settings.resources.workers == 1 else 1 + settings.resources.workers
        if all(total[name] >= times * amount for name, amount in needed.items()):
            return
        raise UserError(
            f"resources: a trial with {settings.resources.workers} workers asks for {times * needed['CPU']:g} CPUs and "
            f"{times * needed['GPU']:g} GPUs, and there are {total['CPU']:g} and {total['GPU']:g}; ask for fewer, or add nodes"
        )
    largest = max((node.get("CPU", 0), node.get("GPU", 0)) for node in nodes)
    raise UserError(
        f"resources: a trial asks for {needed['CPU']} CPUs and {needed['GPU']} GPUs, and no node has them "
        f"(the largest has {largest[0]:g} and {largest[1]:g}); ask for less or add a node"
    )
