"""The errors a person can cause or has to hear of; the command line prints them as one line.

Everything else that is raised is a bug and shows its trace.
"""

import errno
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
    if error.errno not in _FIXES:
        return None
    where = place or error.filename
    what = f"{where}: {error.strerror}" if where else " ".join(str(error).split())
    return UserError(f"{what}; {_FIXES[error.errno]}")


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
