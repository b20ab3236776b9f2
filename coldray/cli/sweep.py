"""`coldray sweep`: run a sweep, go on with one, check and report its results."""

import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any

import click

from coldray.cli.report import report, validate, watch

RUNS = click.option(
    "--runs", default="runs", show_default=True, help="Folder or URI for backbones, results and MLflow."
)
TRACKING = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="An MLflow server; without one, one is started below --runs.",
)
ADDRESS = click.option(
    "--address", envvar="RAY_ADDRESS", help="A running Ray cluster; without one, one is started here."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")


@click.group()
def sweep() -> None:
    """Seed-by-K sweeps on Ray Tune, tracked in MLflow."""


sweep.add_command(report)
sweep.add_command(validate)
sweep.add_command(watch)


@sweep.command()
@click.argument("file", type=click.Path(dir_okay=False))
@RUNS
@TRACKING
@ADDRESS
@JSON
def run(file: str, **options: Any) -> None:
    """Run the sweep that the YAML FILE describes; what is finished already is not run again."""
    from coldray.settings import load_yaml
    from coldray.sweep.config import SweepSettings

    start(load_yaml(file, SweepSettings), resume=False, **options)


@sweep.command()
@click.argument("name")
@RUNS
@TRACKING
@ADDRESS
@JSON
def resume(name: str, runs: str, **options: Any) -> None:
    """Go on with the sweep NAME, the one started last under it, from the last epoch of what was being trained."""
    from coldray.sweep.run import load_sweep

    start(load_sweep(runs, name)[0], runs=runs, resume=True, **options)


def start(
    settings: Any, *, runs: str, tracking_uri: str | None, address: str | None, as_json: bool, resume: bool
) -> None:
    """Run a sweep, tell how it goes, and print what came out. Raises UserError where cells failed."""
    os.environ.setdefault(
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"
    )  # results are MLflow's, not a file a trial
    os.environ.setdefault(
        "RAY_AIR_NEW_OUTPUT", "0"
    )  # Tune's own tables are off, whatever is asked, only with this
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")  # a busy machine is slow to start
    from rich.console import Console

    from coldray.cli.llm import openai_key
    from coldray.errors import UserError
    from coldray.sweep.report import rich_table, to_json
    from coldray.sweep.run import run_sweep

    def say(line: str) -> None:
        click.echo(line, err=True)

    try:
        key = None if settings.zeroshot is None else openai_key(settings.zeroshot.llm)
        with redirect_stdout(sys.stderr):  # where Ray tells of its nodes
            outcome = run_sweep(
                settings, runs, tracking_uri, address=address, resume=resume, say=say, key=key
            )
    except KeyboardInterrupt:
        say(f"go on with: coldray sweep resume {settings.name} --runs {runs}")
        raise
    if as_json:
        click.echo(json.dumps(to_json(outcome.report), indent=1, ensure_ascii=False))
    else:
        Console().print(rich_table(outcome.report))
        click.echo(f"\n{outcome.report.headline}")
    say(f"report: {outcome.report_folder}/report.html")
    say(f"MLflow: {outcome.tracking_uri}" if tracking_uri else f"MLflow: coldray sweep ui --runs {runs}")
    if outcome.failed:
        name, why = next(iter(outcome.failed.items()))
        again = f"mend it, then: coldray sweep resume {settings.name} --runs {runs}"
        raise UserError(f"{len(outcome.failed)} cells failed, the first: {name}: {why}; {again}")


@sweep.command()
@click.option("--runs", default="runs", show_default=True, help="Folder of the sweeps.")
def ui(runs: str) -> None:
    """Serve MLflow's pages over the sweeps in --runs until Ctrl-C."""
    import signal

    from coldray.sweep.server import tracking_server

    with tracking_server(None, f"{runs}/mlflow") as uri:
        click.echo(f"MLflow: {uri} (Ctrl-C ends it)")
        signal.pause()
