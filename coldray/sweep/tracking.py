"""What a sweep writes to MLflow: a parent run for the sweep, a child run for each of its cells.

Everything goes through one address and explicit run ids: no active run, no process-wide state, so that
trials in many processes and machines write at once. Every call may be repeated: a trial that was killed
takes up its run.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS, ErrorCode

from coldray.errors import ServiceError, UserError
from coldray.sweep import artifacts as a

BATCH = 1000
"""metrics that one request may hold"""
PARAMS = 100
"""params that one request may hold"""
EPOCH = "epoch"
NOTE = """Each child run is one cell: a method, its settings and a seed. When the sweep ends a link to their \
comparison stands here; until then search the list of runs for `tags."coldray.sweep_id" = '{sweep_id}' AND \
tags."coldray.kind" = 'cell'`, mark all and press *Compare*.

Means over seeds, intervals and tests are in the artifacts of this run, under `report/`, once
`coldray sweep report` has run. A single run proves little: seeds differ.
"""
COMPARED = """**[Compare {count} cells](#/compare-runs?runs={runs}&experiments={experiments})**: K, seed and method against \
cold NDCG@10, in parallel coordinates, as points and as boxes. Runs of the baseline have no `k`.

"""
MOST_COMPARED = 150
"""cells in the link, as a tag may hold 8,000 characters"""


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn MLflow's failure to reach the server, after its own retries, into a ServiceError."""
    try:
        yield
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(INTERNAL_ERROR) and "API request to" in str(error):
            message = (
                f"{uri}: the MLflow server does not answer; start it again and resume ({error.message:.300})"
            )
            raise ServiceError(message) from error
        raise


def search_runs(client: MlflowClient, experiments: Sequence[str], filter_string: str) -> list[Run]:
    """Return every run that is not deleted and matches, newest first, however many pages that takes."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            list(experiments),
            filter_string,
            ViewType.ACTIVE_ONLY,
            BATCH,
            ["attributes.start_time DESC"],
            token,
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def cell_of_run(uri: str, run_id: str) -> str:
    """Return the cell that a run of the server at `uri` is of. Raises UserError if it is none of ours or not there."""
    try:
        with reaching(uri):
            tags = MlflowClient(uri).get_run(run_id).data.tags
    except MlflowException as error:
        raise UserError(f"run {run_id}: is not at {uri} ({' '.join(str(error).split()):.200})") from error
    if a.CELL_TAG not in tags:
        raise UserError(f"run {run_id}: is no run of a sweep's cell")
    return str(tags[a.CELL_TAG])


class Tracker:
    """Writes one experiment of the server at `uri`.

    Cheap to make; any number of processes may write at once.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        """Open the experiment, and make it if there is none.

        Raises ServiceError when the server does not answer, UserError when the experiment has been deleted.
        """
        self.uri = uri
        self._client = MlflowClient(uri)
        with reaching(uri):
            self.experiment_id = self._experiment(experiment)

    def start_sweep(self, sweep: Mapping[str, Any], job: str = "") -> str:
        """Return the id of the running parent run of `sweep`, the content of sweep.json.

        A run that the sweep already has is taken up again. `job` is the page of the Ray job that runs it, which the run links.
        Raises UserError when `sweep` is not as it should be.
        """
        try:
            spec = a.SweepSpec.model_validate(sweep)
        except ValueError as error:
            raise UserError(f"{a.SWEEP}: {' '.join(str(error).split())}") from error
        with reaching(self.uri):
            found = self._search({a.KIND_TAG: "sweep", a.SWEEP_TAG: spec.sweep_id})
            tags = {a.KIND_TAG: "sweep", a.SWEEP_TAG: spec.sweep_id, a.NAME_TAG: spec.name}
            tags[a.NOTE_TAG] = NOTE.format(sweep_id=spec.sweep_id)
            if job:
                tags |= {a.JOB_TAG: job}
                tags[a.NOTE_TAG] += f"\nRun by [this Ray job]({job}).\n"
            run_id = self._reopen(found, tags, spec.name)
            text = json.dumps(dict(sweep), indent=1, sort_keys=True, ensure_ascii=False)
            self._client.log_text(run_id, text, a.SWEEP)
        return run_id

    def start_cell(self, parent_run_id: str, cell: Mapping[str, Any], params: Mapping[str, Any]) -> str:
        """Return the id of the running run of `cell`, an entry of sweep.json's cells, under its parent.

        A cell has one run: what a killed trial left is taken up again, and of several unfinished ones all but
        the newest are marked as killed. `params` are settings, flat; None is left out.
        """
        spec = a.CellSpec.model_validate(cell)
        with reaching(self.uri):
            parent = self._client.get_run(parent_run_id)
            sweep_id = parent.data.tags[a.SWEEP_TAG]
            found = self._search({a.CELL_TAG: spec.cell_id, a.PARENT_TAG: parent_run_id})
            tags = {a.KIND_TAG: "cell", a.CELL_TAG: spec.cell_id, a.SWEEP_TAG: sweep_id}
            tags |= {a.METHOD_TAG: spec.method, a.PARENT_TAG: parent_run_id}
            tags |= {name: value for name, value in parent.data.tags.items() if name == a.JOB_TAG}
            run_id = self._reopen(found, tags, spec.label)
            said = {"method": spec.method, "seed": spec.seed, "k": spec.k} | dict(params)
            entries = [Param(name, str(value)) for name, value in said.items() if value is not None]
            for start in range(0, len(entries), PARAMS):
                self._client.log_batch(run_id, params=entries[start : start + PARAMS], synchronous=True)
        return run_id

    def page(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.uri}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def finished_cells(self, parent_run_id: str) -> dict[str, str]:
        """Return the run ids of the cells that are finished, by cell id."""
        with reaching(self.uri):
            runs = self._search({a.PARENT_TAG: parent_run_id})
        return {run.data.tags[a.CELL_TAG]: run.info.run_id for run in runs if run.info.status == "FINISHED"}

    def log_epochs(self, run_id: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Record per-epoch metrics: each row has `epoch`, an integer, and values by name.

        An epoch that is already there stays as it is, so that a resumed training may say it again.
        """
        names = sorted({name for row in rows for name in row if name != EPOCH})
        if not names:
            return
        with reaching(self.uri):
            known = {metric.step for metric in self._client.get_metric_history(run_id, names[0])}
            now = _now()
            metrics = [
                Metric(name, float(row[name]), now, int(row[EPOCH]))
                for row in rows
                if int(row[EPOCH]) not in known
                for name in names
                if name in row
            ]
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(run_id, metrics[start : start + BATCH], synchronous=True)

    def finish_cell(self, run_id: str, metrics: Mapping[str, float], artifacts: str | Path) -> None:
        """Record the final metrics and every file of the folder `artifacts`; the status FINISHED comes last.

        A metric that is no number (cold metrics where no target is cold) is left out.
        """
        now = _now()
        # Sorted, as MLflow's comparison begins with the first, which is then cold_ndcg_at_10.
        entries = [
            Metric(name, float(value), now, 0)
            for name, value in sorted(metrics.items())
            if not math.isnan(value)
        ]
        with reaching(self.uri):
            self._client.log_batch(run_id, entries, synchronous=True)
            self._client.log_artifacts(run_id, str(artifacts))
            self._end(run_id, "FINISHED")

    def fail_run(self, run_id: str, reason: str) -> None:
        """Mark a run as failed and keep why in the tag `coldray.error`."""
        with reaching(self.uri):
            self._client.set_tag(run_id, a.ERROR_TAG, reason[:5000], synchronous=True)
            self._end(run_id, "FAILED")

    def finish_sweep(self, run_id: str, status: str = "FINISHED") -> None:
        """End the parent run: FINISHED, FAILED or KILLED. Its description links MLflow's comparison of the finished cells."""
        with reaching(self.uri):
            cells = list(self.finished_cells(run_id).values())[:MOST_COMPARED]
            if cells:
                runs, experiments = (_quoted(ids) for ids in (cells, [self.experiment_id]))
                link = COMPARED.format(count=len(cells), runs=runs, experiments=experiments)
                note = self._client.get_run(run_id).data.tags.get(a.NOTE_TAG, "")
                self._client.set_tag(run_id, a.NOTE_TAG, link + note, synchronous=True)
            self._end(run_id, status)

    def _experiment(self, name: str) -> str:
        """Return the id of an experiment; whoever comes second to make it finds the first one's."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                    raise
                found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise UserError(
                f"{name}: this MLflow experiment has been deleted; restore it or use another name"
            )
        return str(found.experiment_id)

    def _search(self, tags: Mapping[str, str]) -> list[Run]:
        """Return the runs with these tags (hexadecimal or fixed values), newest first."""
        clauses = [f"tags.\"{name}\" = '{value}'" for name, value in tags.items()]
        return search_runs(self._client, [self.experiment_id], " AND ".join(clauses))

    def _reopen(self, found: Sequence[Run], tags: dict[str, str], name: str) -> str:
        """Return the id of a running run with `tags`: a finished one, else the newest, else a new one."""
        if not found:
            return str(self._client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id)
        kept = next((run for run in found if run.info.status == "FINISHED"), found[0])
        for run in found:
            if run is not kept and run.info.status not in ("FINISHED", "KILLED"):
                self._end(run.info.run_id, "KILLED")
        run_id = str(kept.info.run_id)
        self._client.log_batch(
            run_id, tags=[RunTag(key, value) for key, value in tags.items()], synchronous=True
        )
        self._client.update_run(run_id, "RUNNING")
        return run_id

    def _end(self, run_id: str, status: str) -> None:
        """Set a run's last status.

        The client's own call would print to standard output, which is not ours.
        """
        store = self._client._tracking_client.store
        store.update_run_info(run_id, RunStatus.from_string(status), _now(), None)


def _quoted(ids: Sequence[str]) -> str:
    return quote(json.dumps(ids, separators=(",", ":")), safe=",")


def _now() -> int:
    return int(time.time() * 1000)
