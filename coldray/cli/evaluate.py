"""`coldray evaluate`: every method of the papers on users whose next item is cold."""

from typing import Any

import click

from coldray.cli.sweep import ADDRESS, JSON, RUNS, TRACKING


@click.command()
@click.argument("config", type=click.Path(dir_okay=False))
@RUNS
@TRACKING
@ADDRESS
@JSON
def evaluate(config: str, **options: Any) -> None:
    """Compare methods as the YAML file CONFIG says: trained ones, those that ask a language model, and ColdRAG.

    An evaluation is a sweep whose test users all have a cold target (cold_users in CONFIG). `coldray sweep resume, report and
    validate` take its name, and what is finished already is not run again. `coldray doctor CONFIG` says what it will need.
    """
    from coldray.cli.sweep import start
    from coldray.errors import UserError
    from coldray.settings import load_yaml
    from coldray.sweep.config import SweepSettings

    settings = load_yaml(config, SweepSettings)
    if settings.cold_users is None:
        raise UserError(
            f"{config}: cold_users: is missing; say on how many users with a cold target to evaluate"
        )
    start(settings, resume=False, **options)
