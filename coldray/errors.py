"""The errors a person can cause or has to hear of; the command line prints them as one line.

Everything else that is raised is a bug and shows its trace.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_PLACE = "name another place, or give yourself the right to this one"
_SPACE = "free some space, then run the same again"
_FIXES = {
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
"""What to do about an error of the operating system that a person can cause."""


_NUMBER = re.compile(r"\(os error (\d+)\)")
"""how libraries written in Rust tell the number of an error that they raise without it"""


class UserError(Exception):
    """What was asked cannot be done as asked; the message names the place and says what to do.

    The command line prints it as one line and exits with code 2, nothing half-written.
    """

    exit_code = 2


class ServiceError(UserError):
    """A service (Ray, MLflow, an LLM address) could not be reached; exit code 3."""

    exit_code = 3


def mendable(error: OSError, place: str = "") -> UserError | None:
    """Return an error of the operating system at `place` as one that a person can mend; None if it is none of those."""
    told = _NUMBER.search(str(error))
    number = error.errno if error.errno is not None or told is None else int(told[1])
    if number not in _FIXES:
        return None
    where = place or error.filename
    what = f"{where}: {os.strerror(number)}" if where else " ".join(str(error).split())
    return UserError(f"{what}; {_FIXES[number]}")


@contextmanager
def mended(place: str = "") -> Iterator[None]:
    """Turn an error of the operating system that a person can mend into a UserError about `place`."""
    try:
        yield
    except OSError as error:
        told = mendable(error, place)
        if told is None:
            raise
        raise told from error
