"""`coldray cluster`: this machine's part of a cluster, and work for a cluster anywhere."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from coldray.cluster.jobs import Jobs

HOME = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("~/.coldray"),
    show_default=True,
    help="Folder of what runs: state, logs, MLflow's records.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
CPUS = click.option("--cpus", type=click.IntRange(min=1), help="CPUs that Ray may use.  [default: all]")


def _port(name: str, number: int) -> Callable[[Any], Any]:
    kind = click.IntRange(1, 65535)
    return click.option(f"--{name}", type=kind, default=number, show_default=True, metavar="PORT")


@click.group()
def cluster() -> None:
    """Ray's head, dashboard and jobs with MLflow on this machine, or a node of a cluster; work for a cluster anywhere."""


@cluster.command()
@HOME
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine at which others reach it, in a network that is closed to strangers.",
)
@CPUS
@click.option(
    "--backend-store",
    envvar="MLFLOW_BACKEND_STORE_URI",
    help="MLflow's database, such as postgresql://USER:PASSWORD@HOST/NAME; the environment keeps the password out of sight.  "
    "[default: SQLite in --home]",
)
@click.option("--artifacts", help="Folder or URI for MLflow's artifacts.  [default: in --home]")
@click.option("--monitoring", is_flag=True, help="Start Prometheus, and Grafana where it is installed, too.")
@click.option("--no-ray", is_flag=True, help="MLflow alone: Ray is started by another, such as ray up.")
@_port("port", 6379)
@_port("dashboard-port", 8265)
@_port("client-port", 10001)
@_port("mlflow-port", 5000)
@_port("prometheus-port", 9090)
@_port("grafana-port", 3000)
@JSON
def up(home: Path, backend_store: str | None, artifacts: str | None, as_json: bool, **options: Any) -> None:
    """Start what does not run yet, behind tokens; it goes on until `coldray cluster down`."""
    from coldray.cluster import local

    if options["no_ray"] and options["monitoring"]:
        raise click.UsageError("--monitoring: watches a Ray that is started here, so not with --no-ray")
    named = {name.removesuffix("_port"): number for name, number in options.items() if name.endswith("port")}
    places = local.Places(local.resolve(options["host"]), ray=named.pop("port"), **named)
    store = local.Store(backend_store, artifacts)
    local.up(
        home.expanduser(),
        places,
        store,
        cpus=options["cpus"],
        ray=not options["no_ray"],
        monitoring=options["monitoring"],
        say=lambda line: click.echo(line, err=True),
    )
    _show(home.expanduser(), as_json)


@cluster.command()
@click.argument("head")
@HOME
@CPUS
@_port("port", 6379)
@_port("dashboard-port", 8265)
@_port("mlflow-port", 5000)
@JSON
def join(
    head: str, home: Path, cpus: int | None, port: int, dashboard_port: int, mlflow_port: int, as_json: bool
) -> None:
    """Make this machine a node of the cluster that `coldray cluster up --host HEAD` started on another."""
    from coldray.cluster import local

    places = local.Places(local.resolve(head), ray=port, dashboard=dashboard_port, mlflow=mlflow_port)
    local.join(home.expanduser(), places, cpus=cpus, say=lambda line: click.echo(line, err=True))
    _show(home.expanduser(), as_json)


@cluster.command()
@HOME
def down(home: Path) -> None:
    """End all that `coldray cluster up` or `join` started here, and nothing else."""
    from coldray.cluster import local

    ended = local.down(home.expanduser(), say=lambda line: click.echo(line, err=True))
    click.echo(f"ended {ended} program{'s' if ended > 1 else ''}" if ended else "nothing ran")


@cluster.command()
@HOME
@JSON
def status(home: Path, as_json: bool) -> None:
    """Say what runs, and where."""
    _show(home.expanduser(), as_json)


@cluster.command()
@HOME
def env(home: Path) -> None:
    """Print the variables with which commands find the cluster, for: eval "$(coldray cluster env)". They hold MLflow's token."""
    import shlex

    from coldray.cluster import local

    for name, value in local.environment(home.expanduser()).items():
        click.echo(f"export {name}={shlex.quote(value)}")


ADDRESS = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    help="Of the cluster's dashboard, http://HOST:PORT.  [default: that of `coldray cluster up` in --home]",
)


@cluster.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@HOME
@ADDRESS
@click.option("--shared", multiple=True, metavar="FOLDER", help="That all nodes have at the same path.")
@click.option("--detach", is_flag=True, help="Do not wait for the job's end.")
@JSON
def submit(
    arguments: tuple[str, ...],
    home: Path,
    address: str | None,
    shared: tuple[str, ...],
    detach: bool,
    as_json: bool,
) -> None:
    """Run a command as a job, such as `coldray cluster submit -- sweep run FILE`, and show its output.

    Ctrl-C leaves it running.
    """
    jobs = _jobs(home, address)
    job = jobs.submit(arguments, shared)
    if as_json:
        click.echo(json.dumps({"job": job, "page": f"{jobs.address}/#/jobs/{job}"}))
    else:
        click.echo(f"job {job}: {jobs.address}/#/jobs/{job}", err=True)
    if not detach:
        _follow(jobs, job)


@cluster.command()
@click.argument("job")
@HOME
@ADDRESS
def logs(job: str, home: Path, address: str | None) -> None:
    """Show what JOB says, from its beginning to its end."""
    _follow(_jobs(home, address), job)


@cluster.command()
@click.argument("job")
@HOME
@ADDRESS
def stop(job: str, home: Path, address: str | None) -> None:
    """Ask JOB to end. What it has finished is kept, and the same command goes on from there."""
    stopped = _jobs(home, address).stop(job)
    click.echo(f"{job}: asked to end" if stopped else f"{job}: had ended")


@cluster.command("jobs")
@HOME
@ADDRESS
@JSON
def list_jobs(home: Path, address: str | None, as_json: bool) -> None:
    """List the cluster's jobs, the newest first."""
    import time

    rows: list[dict[str, Any]] = [
        {
            "job": job.submission_id,
            "status": job.status.value,
            "started": job.start_time,
            "command": (job.metadata or {}).get("command", job.entrypoint),
        }
        for job in _jobs(home, address).all()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((row["started"] or 0) / 1000))
        click.echo(f"{row['job']}  {row['status']:<9}  {began}  {row['command']}")
    if not rows:
        click.echo("no jobs; submit one with: coldray cluster submit -- COMMAND")


def _jobs(home: Path, address: str | None) -> "Jobs":
    """Return the jobs of the cluster at `address`, or of the one on this machine."""
    import logging

    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it once, when it is imported
    from coldray.cluster import local
    from coldray.cluster.jobs import Jobs
    from coldray.errors import UserError

    names = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging")
    for name in names:  # each sets its own level when it is imported
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    if address is None:
        known = local.environment(home.expanduser())
        if "RAY_API_SERVER_ADDRESS" not in known:
            raise UserError(
                "no cluster runs here; start one with coldray cluster up, or name one with --address"
            )
        address = known["RAY_API_SERVER_ADDRESS"]
    return Jobs(address)


def _follow(jobs: "Jobs", job: str) -> None:
    """Show what a job says until it ends. Raises UserError if it does not end well."""
    import asyncio

    from coldray.errors import UserError

    async def show() -> None:
        async for lines in jobs.logs(job):
            click.echo(lines, nl=False)

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on; coldray cluster logs {job}, coldray cluster stop {job}", err=True)
        raise
    status = jobs.status(job)
    if status.value != "SUCCEEDED":
        raise UserError(f"job {job}: {status.value.lower()}; its output says why: coldray cluster logs {job}")


def _show(home: Path, as_json: bool) -> None:
    """Print what runs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from coldray.cluster import local

    programs = local.programs(home)
    rows = [
        {
            "name": program.name,
            "running": program.process() is not None,
            "address": program.address,
            "page": program.page,
            "pid": program.pid,
            "log": program.log,
        }
        for program in programs
    ]
    if as_json:
        click.echo(json.dumps({"home": str(home), "programs": rows}, indent=1))
        return
    if not rows:
        click.echo("nothing runs; start it with: coldray cluster up")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "address", "page", "log"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        state = Text("up", "green") if row["running"] else Text("ended", "red")
        table.add_row(
            Text(str(row["name"])), state, *(Text(str(row[name])) for name in ("address", "page", "log"))
        )
    # Addresses and paths stay whole, to be copied, however narrow the terminal.
    Console(width=1000).print(table)
    click.echo(
        "Ray's page asks for the token of `ray get-auth-token`; MLflow's opens with ?token= and what is in "
        f"{home}/tracking_token.\n"
        f'Commands in this shell find both after: eval "$(coldray cluster env)"'
    )
