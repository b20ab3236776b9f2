"""This machine's part of a cluster: Ray's head with jobs, MLflow, on request Prometheus and Grafana; or another node.

HOME/cluster.json    what runs: process numbers, addresses, logs
HOME/tracking_token  MLflow's token; Ray's is where Ray keeps it
HOME/mlflow/         records and artifacts, where no other place is named
HOME/logs/           what the programs say
HOME/prometheus/     its configuration and what it has measured
HOME/grafana/        likewise; HOME/metrics has what Ray writes for it, HOME/dashboards Ray's and ours
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from coldray.cluster import processes as p
from coldray.cluster.tracking_app import TOKEN_FILE
from coldray.errors import UserError
from coldray.sweep import server as tracking

START_SECONDS = 120.0
LOOPBACK = "127.0.0.1"
_STATE = "cluster.json"
_TOKEN = "tracking_token"  # noqa: S105 - the file's name
_DASHBOARDS = Path(__file__).with_name("dashboards")


@dataclass(frozen=True)
class Places:
    """Where programs listen."""

    host: str = LOOPBACK
    """address of this machine, of Ray and MLflow; Prometheus and Grafana, which ask for no token, stay on loopback"""
    ray: int = 6379
    dashboard: int = 8265
    client: int = 10001
    mlflow: int = 5000
    prometheus: int = 9090
    grafana: int = 3000


@dataclass(frozen=True)
class Store:
    """Where MLflow keeps its records."""

    backend: str | None = None
    """URI of a database, such as postgresql://…; None: SQLite below HOME"""
    artifacts: str | None = None
    """folder or URI; None: below HOME"""


def resolve(host: str) -> str:
    """Return the IPv4 address of a machine's name. Raises UserError if it has none, or one that is no machine's."""
    try:
        address = socket.gethostbyname(host)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host!r}: is no machine's address or name ({error})") from error
    if address == "0.0.0.0":  # noqa: S104 - refused
        raise UserError(
            f"{host}: stands for all addresses of a machine; give the one at which others reach it"
        )
    return address


def up(
    home: Path,
    places: Places = Places(),
    store: Store = Store(),
    *,
    cpus: int | None = None,
    ray: bool = True,
    monitoring: bool = False,
    say: Callable[[str], None] = print,
) -> list[p.Program]:
    """Start what does not run yet, and return all that does. What runs already is left as it is.

    Without `ray` MLflow alone, for a Ray that another starts.

    Raises UserError for ports that are taken and programs that are not there, ServiceError for those that do not come up; what
    was started before that goes on and is ended by `down`.
    """
    with _turn(home):
        running = {program.name: program for program in _running(home)}
        for program in programs(home):
            if program.name not in running:
                _stop(program)  # what it left behind when it died
        starts = {"mlflow": _mlflow} | ({"ray": _ray} if ray else {})
        starts |= _monitors(say) if monitoring else {}
        wanted = [name for name in starts if name not in running]
        for name in wanted:
            for what, port, option in _listening(name, places):
                p.check_free(what, places.host if name in ("ray", "mlflow") else LOOPBACK, port, option)
        for name in wanted:
            say(f"starting {name}")
            program, answers = starts[name](home, places, store, cpus)
            running[name] = program
            p.write_programs(home / _STATE, list(running.values()))
            p.wait_until(program, answers, START_SECONDS)
        return list(running.values())


def join(home: Path, head: Places, *, cpus: int | None = None, say: Callable[[str], None] = print) -> None:
    """Make this machine a node of the cluster whose head is at `head`, unless it is one already.

    Raises UserError without the head's two tokens and where a cluster has been started here, ServiceError if the head does not
    take the node.
    """
    with _turn(home):
        for program in programs(home):
            if program.process() is None:
                _stop(program)  # what it left behind when it died
            elif (program.name, program.address) == ("node", f"{head.host}:{head.ray}"):
                return
            else:
                raise UserError(
                    f"{program.name} runs here at {program.address}; end it with coldray cluster down"
                )
        rays = {} if "RAY_AUTH_TOKEN" in os.environ else {"Ray's token": _token_path()}
        for what, file in (rays | {"MLflow's token": home / _TOKEN}).items():
            if not file.exists():
                raise UserError(f"{file}: is not there; copy {what} from the same place of {head.host}")
        say(f"joining {head.host}:{head.ray}")
        program, answers = _node(home, head, cpus)
        p.write_programs(home / _STATE, [program])
        p.wait_until(program, answers, START_SECONDS)


def down(home: Path, say: Callable[[str], None] = print) -> int:
    """End all that `up` or `join` started, newest first, and return how many programs that were."""
    with _turn(home):
        ended = 0
        for program in reversed(p.read_programs(home / _STATE)):
            if program.process() is not None:
                say(f"ending {program.name}")
            ended += _stop(program)
        (home / _STATE).unlink(missing_ok=True)
        return ended


def _stop(program: p.Program) -> bool:
    """End a program; return whether there was anything to end. Ray's note of where it runs goes as well."""
    ended = p.stop(program)
    note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    if note.exists() and note.read_text().strip() == program.address:
        note.unlink()  # as `ray stop` does: programs that are told of no address look there
    return ended


def programs(home: Path) -> list[p.Program]:
    """Return what `up` or `join` started, whether it still runs or not."""
    return p.read_programs(home / _STATE)


def environment(home: Path) -> dict[str, str]:
    """Return the variables with which commands on this machine find the cluster and its MLflow, secrets among them."""
    known = {program.name: program for program in _running(home)}
    found = {}
    ray = known.get("ray") or known.get("node")
    if ray is not None:
        found = _of_ray(ray.address.rpartition(":")[0]) | {"RAY_ADDRESS": ray.address}
        found |= {"RAY_API_SERVER_ADDRESS": ray.page}
    if "mlflow" in known:
        found |= _of_mlflow(home, known["mlflow"].address)
    return found


def _of_ray(host: str) -> dict[str, str]:
    """Return variables of all processes of a Ray whose head is at `host`."""
    # Its name says where Ray stays on loopback by itself; `ray start` would take an address that other machines reach, even if
    # told otherwise.
    alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if host == LOOPBACK else {}
    return {"RAY_AUTH_MODE": "token"} | alone


def _of_mlflow(home: Path, address: str) -> dict[str, str]:
    token = (home / _TOKEN).read_text().strip()
    return {"MLFLOW_TRACKING_URI": address, "MLFLOW_TRACKING_TOKEN": token}


def _running(home: Path) -> list[p.Program]:
    return [program for program in programs(home) if program.process() is not None]


@contextmanager
def _turn(home: Path) -> Iterator[None]:
    """Let one command at a time change what runs."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(home / "cluster.lock", timeout=2 * START_SECONDS):
            yield
    except Timeout as error:
        raise UserError(f"{home}: another command changes this cluster; wait for it") from error


def _listening(name: str, places: Places) -> list[tuple[str, int, str]]:
    """Return what a program listens with: what for, where, and the option that names another port."""
    if name == "ray":
        return [
            ("Ray", places.ray, "--port"),
            ("Ray's dashboard", places.dashboard, "--dashboard-port"),
            ("Ray's client server", places.client, "--client-port"),
        ]
    return [(name, getattr(places, name), f"--{name}-port")]


def _mlflow(
    home: Path, places: Places, store: Store, cpus: int | None
) -> tuple[p.Program, Callable[[], bool]]:
    """Start MLflow behind a token."""
    token = home / _TOKEN
    if not token.exists():
        p.write_private(token, secrets.token_hex(32))
    folder = home / "mlflow"
    if store.backend is None:
        tracking.create_database(folder)
    artifacts = store.artifacts or str(folder / "artifacts")
    # The database's address may hold a password, which belongs into no list of processes.
    secret = {"MLFLOW_BACKEND_STORE_URI": store.backend or tracking.database_uri(folder)}
    variables = {name: value for name, value in os.environ.items() if name not in tracking.UNSET}
    variables |= tracking.ENVIRONMENT | secret | {TOKEN_FILE: str(token)}
    address = f"http://{places.host}:{places.mlflow}"
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "coldray", "--host", places.host]
    hosts = f"{tracking.ALLOWED_HOSTS},{places.host},{places.host}:*"
    command += ["--port", str(places.mlflow), "--workers", "2", "--serve-artifacts"]
    command += ["--artifacts-destination", artifacts, "--allowed-hosts", hosts]
    program = p.start("mlflow", command, variables, (address, address), home / "logs" / "mlflow.log")
    return program, lambda: _answers(f"{address}/health")


def _ray(home: Path, places: Places, store: Store, cpus: int | None) -> tuple[p.Program, Callable[[], bool]]:
    """Start Ray's head, which asks for a token; jobs and workers find MLflow by its environment."""
    token = ray_token()
    variables = {name: value for name, value in environment(home).items() if name.startswith("MLFLOW")}
    variables["RAY_PROMETHEUS_HOST"] = f"http://{LOOPBACK}:{places.prometheus}"
    variables["RAY_GRAFANA_HOST"] = f"http://{LOOPBACK}:{places.grafana}"
    # By itself Ray writes them to its newest session, which may be another Ray's of this machine.
    variables["RAY_METRICS_OUTPUT_ROOT"] = str(home.absolute() / "metrics")
    variables["RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"] = str(home.absolute() / "dashboards")
    options = ["--head", "--port", str(places.ray), "--ray-client-server-port", str(places.client)]
    options += ["--dashboard-host", places.host, "--dashboard-port", str(places.dashboard)]
    options += ["--include-dashboard", "true"]
    options += [] if places.host == LOOPBACK else ["--node-ip-address", places.host]
    program = _start_ray("ray", home, places, cpus, options, variables)
    # The dashboard comes first, the node, without which nothing runs, after it.
    return program, lambda: bool(_nodes(program.page, token))


def _node(home: Path, head: Places, cpus: int | None) -> tuple[p.Program, Callable[[], bool]]:
    """Start a Ray node at the address with which this machine reaches the head."""
    token, page = ray_token(), f"http://{head.host}:{head.dashboard}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect((head.host, head.ray))  # sends nothing
        own = towards.getsockname()[0]
    before = _nodes(page, token)
    variables = _of_mlflow(home, f"http://{head.host}:{head.mlflow}")
    options = ["--address", f"{head.host}:{head.ray}", "--node-ip-address", own]
    program = _start_ray("node", home, head, cpus, options, variables)
    return program, lambda: any(
        address == own for node, address in _nodes(page, token).items() if node not in before
    )


def _start_ray(
    name: str, home: Path, head: Places, cpus: int | None, options: list[str], variables: dict[str, str]
) -> p.Program:
    """Start `ray start` with what a head and another node have in common."""
    variables = dict(os.environ) | _of_ray(head.host) | {"RAY_USAGE_STATS_ENABLED": "0"} | variables
    variables.pop("RAY_ADDRESS", None)
    # A job that comes from another machine says `python`, which has to be this one.
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--disable-usage-stats",
        *options,
    ]
    # Ports that nobody has to know are any that are free.
    command += ["--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"]
    command += [] if cpus is None else ["--num-cpus", str(cpus)]
    addresses = (f"{head.host}:{head.ray}", f"http://{head.host}:{head.dashboard}")
    return p.start(name, command, variables, addresses, home / "logs" / f"{name}.log")


def _nodes(page: str, token: str) -> dict[str, str]:
    """Return the address of each node that is alive, by its id; none while the dashboard does not answer."""
    alive = f"{page}/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
    answered = _read(alive, token)
    found = json.loads(answered) if answered else {}
    return {
        node["node_id"]: node["node_ip"] for node in found.get("data", {}).get("result", {}).get("result", [])
    }


def ray_token() -> str:
    """Return Ray's token of this machine, made if there is none; where it is a file nobody else may read it."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return os.environ["RAY_AUTH_TOKEN"]
    file = _token_path()
    if not file.exists():
        p.write_private(file, secrets.token_hex(32))
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)
    return file.read_text().strip()


def _token_path() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").absolute()


def _monitors(say: Callable[[str], None]) -> dict[str, Callable[..., tuple[p.Program, Callable[[], bool]]]]:
    """Return what can watch here. Raises UserError without Prometheus; Grafana is one of several ways to look at it."""
    if shutil.which("prometheus") is None:
        raise UserError(
            "prometheus: is not installed; install the package prometheus, or leave out --monitoring"
        )
    if shutil.which("grafana-server") is None:
        say("grafana-server is not installed: Prometheus alone is started")
        return {"prometheus": _prometheus}
    return {"prometheus": _prometheus, "grafana": _grafana}


def _prometheus(
    home: Path, places: Places, store: Store, cpus: int | None
) -> tuple[p.Program, Callable[[], bool]]:
    """Start Prometheus over the nodes that Ray lists."""
    folder, token = home / "prometheus", _token_path()
    if "RAY_AUTH_TOKEN" in os.environ:  # Prometheus reads it from a file
        token = folder.absolute() / "ray_token"
        p.write_private(token, os.environ["RAY_AUTH_TOKEN"])
    # Ray's own file of its nodes is one for all Rays of the machine, and changes behind a link, where Prometheus does not look.
    nodes = {
        "url": f"{environment(home)['RAY_API_SERVER_ADDRESS']}/api/prometheus/sd",
        "authorization": {"type": "Bearer", "credentials_file": str(token)},
        "refresh_interval": "10s",
    }
    scraping = {
        "global": {"scrape_interval": "10s"},
        "scrape_configs": [{"job_name": "ray", "http_sd_configs": [nodes]}],
    }
    file = folder / "prometheus.yml"
    p.write_private(file, json.dumps(scraping, indent=1))  # JSON is YAML
    address = f"http://{LOOPBACK}:{places.prometheus}"
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={LOOPBACK}:{places.prometheus}"]
    program = p.start("prometheus", command, os.environ, (address, address), home / "logs" / "prometheus.log")
    return program, lambda: _answers(f"{address}/-/ready")


def _grafana(
    home: Path, places: Places, store: Store, cpus: int | None
) -> tuple[p.Program, Callable[[], bool]]:
    """Start Grafana with Ray's dashboards and ours. Everybody on the machine may look, nobody may change anything."""
    shutil.copytree(_DASHBOARDS, home / "dashboards", dirs_exist_ok=True)
    folder = home.absolute() / "grafana"
    variables = dict(os.environ) | {
        "GF_SERVER_HTTP_ADDR": LOOPBACK,
        "GF_SERVER_HTTP_PORT": str(places.grafana),
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",  # whose password everybody knows
    }
    variables |= {f"GF_PATHS_{name.upper()}": str(folder / name) for name in ("data", "logs", "plugins")}
    address = f"http://{LOOPBACK}:{places.grafana}"
    homepath = os.environ.get("GF_PATHS_HOME", "/usr/share/grafana")
    settings = home.absolute() / "metrics" / "grafana" / "grafana.ini"
    command = ["grafana-server", "--homepath", homepath, "--config", str(settings)]
    program = p.start("grafana", command, variables, (address, address), home / "logs" / "grafana.log")
    return program, lambda: _answers(f"{address}/api/health")


def _answers(url: str) -> bool:
    """Return whether a server answers."""
    return bool(_read(url))


def _read(url: str, token: str = "") -> bytes:
    """Return what a server answers, nothing if it does not or refuses."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:  # noqa: S310 - ours
            answered: bytes = answer.read()
            return answered
    except (urllib.error.URLError, OSError):
        return b""
