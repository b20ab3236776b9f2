"""Programs that go on after the command that started them, and that are known again by the next one."""

import errno
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from coldray.errors import ServiceError, UserError

GRACE_SECONDS = 30.0
"""between asking a program to end and ending it"""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Program:
    """A program in a session of its own, started by us."""

    name: str
    pid: int
    created: float
    """when it started, seconds since 1970: a process with the same number and another time is another one"""
    address: str
    """where programs reach it"""
    log: str
    page: str
    """where a browser sees it"""

    def process(self) -> psutil.Process | None:
        """Return the running process, None if it has ended."""
        try:
            found = psutil.Process(self.pid)
            ended = found.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if self._is(found) and not ended else None

    def family(self) -> list[psutil.Process]:
        """Return the process and all that it started, as far as it runs; what it left behind if it has ended."""
        with suppress(psutil.NoSuchProcess):
            if not self._is(psutil.Process(self.pid)):
                return []  # the number is another's by now, which it cannot be while its session has members
        leader = self.process()
        found = {} if leader is None else {leader.pid: leader}
        with suppress(psutil.NoSuchProcess):
            found |= {child.pid: child for child in (leader.children(recursive=True) if leader else ())}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = process
        return list(found.values())

    def _is(self, process: psutil.Process) -> bool:
        return bool(abs(process.create_time() - self.created) < 1)

    def tail(self) -> str:
        """Return the last lines of its log, on one line."""
        lines = Path(self.log).read_text(errors="replace").split("\n") if Path(self.log).exists() else []
        return " | ".join(line.strip() for line in lines if line.strip())[-600:]


def start(
    name: str, command: Sequence[str], environment: Mapping[str, str], addresses: tuple[str, str], log: Path
) -> Program:
    """Start a program in a session of its own, its output in `log`, readable by its owner alone.

    `addresses` are where programs reach it and where a browser sees it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(  # noqa: S603 - every argument is ours or checked; no shell
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    return Program(name, process.pid, created, addresses[0], str(log), addresses[1])


def stop(program: Program) -> bool:
    """End a program and all that it started: asked first, then killed. Return whether there was anything to end."""
    family = program.family()
    # The program first, which ends what it started in an order that suits it: Ray's, all asked at once, wait for one another.
    for asked in [process for process in family if process.pid == program.pid], family:
        for process in asked:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(asked, timeout=GRACE_SECONDS)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=GRACE_SECONDS)
    return bool(family)


def wait_until(program: Program, answers: Callable[[], bool], seconds: float) -> None:
    """Return once `answers()` is true. Raises ServiceError, with the end of the log, if the program ends or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answers():
            return
        if program.process() is None:
            raise ServiceError(f"{program.name} ended as it started; see {program.log}: {program.tail()}")
        time.sleep(_LOOK_SECONDS)
    raise ServiceError(
        f"{program.name} did not answer at {program.address} in {seconds:.0f} s; see {program.log}: {program.tail()}"
    )


def check_free(name: str, host: str, port: int, option: str) -> None:
    """Raise UserError if `host` is no address of this machine, or something listens at its port; say what, as far as is known."""
    with closing(socket.socket()) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
            return
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise UserError(f"--host {host}: is no address of this machine ({error})") from error
            owner = _owner(port)
    raise UserError(f"{name}: port {port} is taken{owner}; stop that, or name another port with {option}")


def _owner(port: int) -> str:
    """Return " by process N (its name)", or nothing where it may not be known."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            taken = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if taken and connection.pid is not None:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def write_programs(path: Path, programs: Sequence[Program]) -> None:
    """Write down what runs."""
    write_private(path, json.dumps([asdict(program) for program in programs], indent=1))


def read_programs(path: Path) -> list[Program]:
    """Return what was written down, running or not. Raises UserError for a file that is not ours."""
    if not path.exists():
        return []
    try:
        return [Program(**entry) for entry in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: is not what coldray cluster up writes ({error}); remove it once nothing of it runs"
        ) from error
