"""The MLflow server of a sweep: an embedded one over a folder, or one that is already there.

FOLDER/mlflow.db     experiments, runs, metrics (SQLite)
FOLDER/artifacts/    what runs leave, written and read through the server alone
FOLDER/mlflow-PORT.log    what a server says while it runs; stays when something failed
"""

import fcntl
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coldray.errors import ServiceError, UserError

DATABASE = "mlflow.db"
START_SECONDS = 120.0
"""how long a server may take to answer; a busy machine needs ten seconds"""
ARTIFACT_ROOT = "mlflow-artifacts:/"
ALLOWED_HOSTS = "localhost,127.0.0.1,localhost:*,127.0.0.1:*"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # no scheduler processes: the server only keeps records
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "64",  # more connections than the server has threads: none waits for one
    "PYTHONSAFEPATH": "1",  # a file of the user's that is named like a module is not imported in its place
}
"""of a server"""
UNSET = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")
"""variables of the user's that would make a server another one's client"""


@contextmanager
def tracking_server(uri: str | None, folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the address of a tracking server: `uri` once it answered, or an embedded server's over `folder`.

    `sqlite:///PATH/mlflow.db` stands for an embedded server over PATH. Raises ServiceError when the server at
    `uri` does not answer, UserError for an address of another kind.
    """
    if uri is not None and uri.startswith("sqlite:"):
        folder, uri = _sqlite_folder(uri), None
    if uri is None:
        with embedded_server(folder) as embedded:
            yield embedded
        return
    if urllib.parse.urlsplit(uri).scheme not in ("http", "https"):
        raise UserError(
            f"{uri}: is no tracking server; give http(s)://HOST:PORT or sqlite:///FOLDER/{DATABASE}"
        )
    problem = _health(uri, seconds=10.0)
    if problem:
        raise ServiceError(
            f"{uri}: no MLflow server answers there ({problem}); start it or correct the address"
        )
    yield uri.rstrip("/")


@contextmanager
def embedded_server(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the address of an `mlflow server` of this machine only, over `folder`, which is made if need be.

    The server ends with the context, and with this process however that ends. Several may run over one
    folder. Raises ServiceError, with the end of the server's log, when it does not come up.
    """
    home = Path(folder).expanduser().absolute()
    create_database(home)
    with closing(_free_port()) as held:
        port = held.getsockname()[1]
    log = home / f"mlflow-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (every argument is ours; no shell)
            _command(home, port),
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we end the server in our own time
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        _wait_until_up(process, uri, log)
        yield uri
        log.unlink()
    finally:
        if process.stdin is not None:
            process.stdin.close()  # the watchdog ends the server and itself
        process.wait()


def _command(home: Path, port: int) -> list[str]:
    """Return the command line of a watched server."""
    watchdog = [sys.executable, "-I", str(Path(__file__).with_name("watchdog.py"))]
    server = [
        *(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", database_uri(home), "--serve-artifacts"),
        *("--artifacts-destination", (home / "artifacts").as_uri(), "--allowed-hosts", ALLOWED_HOSTS),
    ]
    unset = [part for name in UNSET for part in ("-u", name)]
    return [*watchdog, "/usr/bin/env", *unset, *(f"{k}={v}" for k, v in ENVIRONMENT.items()), *server]


def database_uri(home: Path, name: str = DATABASE) -> str:
    """Return the URI of a folder's database."""
    return f"sqlite:///{urllib.parse.quote(str(home / name))}"


def database_of(runs: str) -> str:
    """Return the tracking URI of what sweeps keep in `runs` by themselves. Raises UserError if that is nothing."""
    home = Path(runs) / "mlflow"
    if not (home / DATABASE).is_file():
        raise UserError(f"{runs}: has no MLflow database of its own; name the server's address")
    return database_uri(home.absolute())


def _sqlite_folder(uri: str) -> Path:
    """Return the folder of a database that an embedded server keeps."""
    path = Path(urllib.parse.unquote(uri.removeprefix("sqlite:///")))
    if path.name != DATABASE or not path.is_file():
        raise UserError(f"{uri}: is no database of a sweep; name an existing FOLDER/{DATABASE}")
    return path.parent


def create_database(home: Path) -> None:
    """Make `home`'s database where there is none yet: whole or not at all, one process at a time."""
    home.mkdir(parents=True, exist_ok=True)
    if (home / DATABASE).exists():
        return
    with (home / "mlflow.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / DATABASE).exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415  (4 s, once a folder)

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # says that it makes tables
        temporary = home / f"{DATABASE}.tmp"
        temporary.unlink(missing_ok=True)
        # MLflow's constructor, which makes the tables, has no types.
        store = SqlAlchemyStore(database_uri(home, temporary.name), ARTIFACT_ROOT)  # type: ignore[no-untyped-call]  # MLflow's
        store.engine.dispose()
        temporary.replace(home / DATABASE)


def _free_port() -> socket.socket:
    """Return a socket bound to a free port of this machine."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def _health(uri: str, seconds: float) -> str:
    """Return why no MLflow server answers at `uri`, or nothing when one does."""
    request = urllib.request.Request(f"{uri.rstrip('/')}/health")  # noqa: S310  (the caller checked the scheme)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310  (as above)
            return "" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


def _wait_until_up(process: "subprocess.Popen[bytes]", uri: str, log: Path) -> None:
    """Return once the server answers. Raises ServiceError when it ended or took too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if not _health(uri, seconds=2.0):
            return
        time.sleep(0.05)
    ended = (
        f"ended with code {process.returncode}" if process.poll() is not None else "did not answer in time"
    )
    tail = " | ".join(log.read_text(errors="replace").splitlines()[-4:])
    raise ServiceError(f"{log.parent}: the MLflow server {ended}; see {log}, which ends: {tail[-600:]}")
