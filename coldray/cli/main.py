"""The command `coldray`: its sub-commands, and how errors leave it.

Exit codes: 0 done, 1 a bug, 2 the user's input, 3 a service that could not be reached, 130 interrupted.
"""

import importlib
import sys
import warnings

import click

from coldray import __version__
from coldray.errors import UserError, mendable

COMMANDS = ("data", "encode", "sweep", "evaluate", "recommend", "graph", "llm", "serve", "cluster", "doctor")


class LazyGroup(click.Group):
    """Imports a sub-command when it is asked for, so that help comes at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the sub-commands, in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a sub-command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"coldray.cli.{cmd_name}"), cmd_name)
        return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="coldray")
def coldray() -> None:
    """Cold-start recommendation on a Ray cluster, from raw catalogue to served recommendation."""
    # Nothing forks here but to start another program, which Lance survives.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")


def main() -> None:
    """Run the command line; print what a person can mend as one line."""
    try:
        coldray.main(standalone_mode=False)
    except UserError as error:
        click.echo(f"coldray: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        told = mendable(error)
        if told is None:
            raise
        click.echo(f"coldray: {told}", err=True)
        sys.exit(told.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("coldray: interrupted", err=True)
        sys.exit(130)
