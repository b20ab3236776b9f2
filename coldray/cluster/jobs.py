"""Commands of coldray as jobs of a Ray cluster: what they need is packed, what they cannot reach is refused before that."""

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from ray.util.state import list_nodes

import coldray
from coldray.errors import ServiceError, UserError

COMMANDS = ("sweep run", "sweep resume", "evaluate", "graph build", "graph add", "data prepare", "encode")
"""that may be jobs: those that work on a cluster and end"""
_WITH_RUNS = {"sweep", "evaluate"}
"""commands that write to --runs, a folder here if nothing else is said"""
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, address: str) -> None:
        """Reach the dashboard at `address`, http(s)://HOST:PORT. Raises ServiceError if it cannot be reached."""
        if urlsplit(address).scheme not in ("http", "https"):
            raise UserError(f"{address}: is no dashboard; give http://HOST:PORT")
        self.address = address
        try:
            self.client = JobSubmissionClient(address)
        except AuthenticationError as error:
            raise ServiceError(
                f"{address}: refuses this machine's token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with "
                'the cluster\'s, or on its own machine: eval "$(coldray cluster env)"'
            ) from error
        except (ConnectionError, RuntimeError) as error:
            raise ServiceError(
                f"{address}: no Ray dashboard answers there; start it with coldray cluster up, or correct --address"
            ) from error

    def submit(self, arguments: Sequence[str], shared: Sequence[str] = ()) -> str:
        """Start `coldray ARGUMENTS` as a job and return its id.

        coldray's own code and the YAML files among the arguments are sent, and nothing else. `shared` names folders that all
        nodes have at the same path. Raises UserError for a command that is no job, and for paths that not all nodes have.
        """
        check_command(arguments)
        here = self.is_here()
        if not here:
            check_paths(arguments, shared)
        with packed([] if here else arguments) as (folder, sent):
            command = shlex.join([sys.executable, "-m", "coldray", *arguments])
            # On this machine a job finds what its command names where it was given.
            entrypoint = f"cd {shlex.quote(os.getcwd())} && {command}"
            if not here:
                entrypoint = shlex.join(["python", "-m", "coldray", *sent])
            kept = {"command": shlex.join(["coldray", *arguments])}
            job: str = self.client.submit_job(
                entrypoint=entrypoint, runtime_env={"working_dir": str(folder)}, metadata=kept
            )
        return job

    def is_here(self) -> bool:
        """Return whether all nodes of the cluster are this machine."""
        own = {address.address for of in psutil.net_if_addrs().values() for address in of}
        nodes = list_nodes(address=self.address, filters=[("state", "=", "ALIVE")])
        return bool(nodes) and all(node.node_ip in own for node in nodes)

    def all(self) -> list[JobDetails]:
        """Return the jobs that were submitted, newest first."""
        jobs = [job for job in self.client.list_jobs() if job.submission_id]
        return sorted(jobs, key=lambda job: -(job.start_time or 0))

    def status(self, job: str) -> JobStatus:
        """Return how a job stands. Raises UserError if there is none of that id."""
        try:
            return self.client.get_job_status(job)
        except RuntimeError as error:
            raise UserError(f"{job}: is no job of {self.address}; see coldray cluster jobs") from error

    def stop(self, job: str) -> bool:
        """Ask a job to end; return whether it ran."""
        self.status(job)
        stopped: bool = self.client.stop_job(job)
        return stopped

    def logs(self, job: str) -> AsyncIterator[str]:
        """Yield what a job says, from its beginning until it ends."""
        self.status(job)
        lines: AsyncIterator[str] = self.client.tail_job_logs(job)
        return lines


def check_command(arguments: Sequence[str]) -> None:
    """Raise UserError unless the arguments are a command that can be a job, without a password among them."""
    if not {" ".join(arguments[:1]), " ".join(arguments[:2])} & set(COMMANDS):
        raise UserError(f"{' '.join(arguments[:2])}: is no job; submit one of: {', '.join(COMMANDS)}")
    for argument in arguments:
        if _PASSWORD.search(argument):
            raise UserError(
                "a password in an address would be seen by all who see the job; give it to the nodes' environment instead"
            )


def check_paths(arguments: Sequence[str], shared: Sequence[str]) -> None:
    """Raise UserError for a path of this machine, among the arguments or in a YAML file of them, that nodes may not have."""
    said: list[tuple[str, str]] = []
    words = 1 if arguments[0] in COMMANDS else 2  # of the command: a folder may have its name
    for value in _values(arguments[words:]):
        if _is_yaml(value):
            said += [(f"{value}: {text}", text) for text in _strings(_yaml(value))]
        else:
            said.append((value, value))
    if arguments[0] in _WITH_RUNS and "--runs" not in [argument.partition("=")[0] for argument in arguments]:
        raise UserError(
            "--runs: is a folder of this machine if it is not given; name a URI, such as s3://BUCKET/runs"
        )
    known = [os.path.abspath(folder) for folder in shared]
    for where, path in said:
        whole = os.path.abspath(path)
        if "://" in path or not (Path(path).exists() or os.path.isabs(path)):
            continue
        if not any(os.path.commonpath([whole, folder]) == folder for folder in known):
            raise UserError(
                f"{where}: is a path of this machine, which the cluster's nodes do not see; name a URI, or, where all have "
                "the same folder there, say --shared FOLDER"
            )


def _values(arguments: Sequence[str]) -> Iterator[str]:
    """Yield arguments and the values of options."""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        yield value if equals and name.startswith("--") else argument


def _yaml(path: str) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


@contextmanager
def packed(arguments: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder with coldray's code and the YAML files among the arguments, and the arguments as they are there."""
    with tempfile.TemporaryDirectory(prefix="coldray-job-") as made:
        folder, sent = Path(made), list(arguments)
        code = Path(coldray.__file__).parent
        shutil.copytree(code, folder / "coldray", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        for place, value in enumerate(_values(arguments)):
            if _is_yaml(value):
                target = Path("job", str(place), Path(value).name)
                (folder / target).parent.mkdir(parents=True)
                shutil.copyfile(value, folder / target)
                sent[place] = arguments[place].removesuffix(value) + str(target)
        yield folder, sent


def _is_yaml(value: str) -> bool:
    return value.endswith((".yaml", ".yml")) and Path(value).is_file()
