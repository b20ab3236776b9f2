"""The command `coldray`: its sub-commands, and how errors leave it.

Exit codes: 0 done, 1 a bug, 2 the user's input, 3 a service that could not be reached, 130 interrupted.
"""

import errno
import importlib
import sys

import click

from coldray import __version__
from coldray.errors import UserError

_PLACE = "name another place, or give yourself the right to this one"
_SPACE = "free some space, then run the same again"
MENDABLE = {
    errno.EACCES: _PLACE,
    errno.EPERM: _PLACE,
    errno.EROFS: _PLACE,
    errno.ENOENT: "name one that is there",
    errno.ENOTDIR: "name a folder",
    errno.EEXIST: "name a folder",
    errno.EISDIR: "name a file",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
}
"""What to do about an error of the operating system that a person can cause; the others are bugs."""
COMMANDS = ("data", "encode", "sweep", "doctor")


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


def main() -> None:
    """Run the command line; print what a person can mend as one line."""
    try:
        coldray.main(standalone_mode=False)
    except UserError as error:
        click.echo(f"coldray: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        place = f"{error.filename}: {error.strerror}" if error.filename else " ".join(str(error).split())
        click.echo(f"coldray: {place}; {MENDABLE[error.errno]}", err=True)
        sys.exit(UserError.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("coldray: interrupted", err=True)
        sys.exit(130)
