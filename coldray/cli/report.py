"""`coldray sweep report` and `coldray sweep validate`: what a sweep found, read back from MLflow."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from coldray.sweep.validate import SweepRecord

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    """Add what both commands take: which sweep, and where MLflow is."""
    options = (
        click.argument("sweep", required=False),
        click.option(
            "--tracking-uri",
            envvar="MLFLOW_TRACKING_URI",
            metavar="URI",
            help="MLflow server (http://HOST:PORT). Without it one is started over the folder of --runs.",
        ),
        click.option(
            "--runs",
            default="runs",
            show_default=True,
            type=click.Path(file_okay=False),
            help="Folder of the sweeps; used without --tracking-uri.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def _open(sweep: str | None, tracking_uri: str | None, runs: str) -> "Iterator[SweepRecord]":
    """Yield the sweep that is meant, from the server that is there or one that is started for it."""
    from coldray.sweep.validate import read_sweep

    with _server(tracking_uri, runs) as uri, read_sweep(uri, sweep) as record:
        yield record


@contextmanager
def _server(tracking_uri: str | None, runs: str) -> Iterator[str]:
    """Yield the server that is there, or one that is started over the folder of the sweeps."""
    from pathlib import Path

    from coldray.errors import UserError
    from coldray.sweep.server import DATABASE, tracking_server

    folder = Path(runs) / "mlflow"
    if not tracking_uri and not (folder / DATABASE).exists():
        raise UserError(
            f"{folder}: holds no sweep; name its folder with --runs, or a server with --tracking-uri"
        )
    with tracking_server(tracking_uri or None, folder) as uri:
        yield uri


@click.command()
@_options
@click.option(
    "--every", default=3.0, show_default=True, type=click.FloatRange(min=0.5), help="Seconds between looks."
)
def watch(sweep: str | None, tracking_uri: str | None, runs: str, as_json: bool, every: float) -> None:
    """Follow SWEEP (its name or id; the newest if not given), which another terminal or a job runs, until it ends.

    With --json how it stands is printed once.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.live import Live

    from coldray.sweep.watch import follow, look, view

    with _server(tracking_uri, runs) as uri:
        if as_json:
            click.echo(json.dumps(asdict(look(uri, sweep)), indent=1))
            return
        console, done = Console(), -1
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for progress in follow(uri, sweep, every):
                    live.update(view(progress), refresh=True)
            return
        for progress in follow(uri, sweep, every):
            if progress.done != done or progress.status != "RUNNING":
                console.print(view(progress))
                done = progress.done


@click.command()
@_options
@click.option("--out", metavar="DIR", help="Folder of the report. [default: RUNS/reports/SWEEP ID]")
def report(sweep: str | None, tracking_uri: str | None, runs: str, as_json: bool, out: str | None) -> None:
    """Write the report of SWEEP (its name or id; the newest if not given) from what MLflow has.

    The report is one page, report.html, and the tables as Markdown, CSV and LaTeX. It is kept beside the
    sweep's run in MLflow too.
    """
    from pathlib import Path

    from rich.console import Console

    from coldray.sweep.report import make_report, rich_table, to_json, write_report

    with _open(sweep, tracking_uri, runs) as record:
        made = make_report(record)
        folder = Path(out) if out else Path(runs) / "reports" / record.spec.sweep_id
        files = write_report(made, folder)
    if as_json:
        click.echo(json.dumps(to_json(made) | {"files": list(map(str, files))}, indent=1, ensure_ascii=False))
        return
    Console().print(rich_table(made))
    click.echo(f"\n{made.headline}")
    if made.left_out:
        click.echo(f"{len(made.left_out)} left out: coldray sweep validate says why", err=True)
    click.echo(f"report: {folder / 'report.html'}", err=True)


@click.command()
@_options
@click.pass_context
def validate(
    context: click.Context, sweep: str | None, tracking_uri: str | None, runs: str, as_json: bool
) -> None:
    """Check every run of SWEEP (its name or id; the newest if not given); exit with 2 if one may not count."""
    from coldray.sweep.validate import validate as check

    with _open(sweep, tracking_uri, runs) as record:
        results, left_out = check(record)
        name = record.spec.name
    if as_json:
        runs_counted = {result.run_id: result.cell.label for result in results}
        said = {"sweep": name, "counted": runs_counted, "left_out": [item._asdict() for item in left_out]}
        click.echo(json.dumps(said, indent=1, ensure_ascii=False))
    else:
        click.echo(f"{name}: {len(results)} runs may be counted, {len(left_out)} may not")
        for item in left_out:
            click.echo(f"  {item.cell}: {item.reason}" + (f" (run {item.run_id})" if item.run_id else ""))
    if left_out:
        context.exit(2)
