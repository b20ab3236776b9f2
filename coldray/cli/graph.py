"""`coldray graph`: the knowledge graph of a catalogue."""

import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from coldray.errors import UserError

if TYPE_CHECKING:
    from coldray.graph.build import Built
    from coldray.graph.settings import BuildSettings

DATASET = click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
GRAPH = click.option("--graph", metavar="PATH", help="The graph's folder or URI.  [default: DIR/graph]")
CONFIG = click.option(
    "--config", metavar="FILE", help="YAML of the build's settings.  [default: those of the last build]"
)
MODEL = click.option(
    "--model", help="Language model for vLLM: a folder or a name of the hub. Goes before the file's."
)
ADDRESS = click.option("--address", help="Ray cluster.  [default: Ray on this machine]")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def graph() -> None:
    """Build and keep the knowledge graph of a data set's catalogue.

    DIR is a data set folder (coldray data prepare), or any folder with an items.parquet: item_id, title and what else there is.
    """


@graph.command()
@DATASET
@GRAPH
@CONFIG
@MODEL
@click.option("--limit", type=click.IntRange(min=1), help="The catalogue's first items alone.")
@click.option(
    "--retry-failed", is_flag=True, help="Ask again about the items that failed, and about no others."
)
@ADDRESS
@JSON
def build(
    folder: str, graph: str | None, limit: int | None, retry_failed: bool, as_json: bool, **options: Any
) -> None:
    """Build the graph of the catalogue, or bring it up to date: only what changed is asked about.

    An interrupted build goes on where it stopped: no answer is paid for twice.
    """
    items = os.path.join(folder, "items.parquet")
    _run(folder, graph, items, as_json, options, limit=limit, scope="failed" if retry_failed else "catalogue")


@graph.command()
@DATASET
@click.option(
    "--items",
    required=True,
    metavar="FILE",
    help="Parquet file with the items: item_id and the catalogue's columns.",
)
@GRAPH
@CONFIG
@MODEL
@ADDRESS
@JSON
def add(folder: str, items: str, graph: str | None, as_json: bool, **options: Any) -> None:
    """Add items to the graph, or put them in the place of those with their ids; all others stay."""
    _run(folder, graph, items, as_json, options, scope="items")


@graph.command()
@DATASET
@click.argument("item_ids", metavar="ITEM...", nargs=-1, required=True)
@GRAPH
@JSON
def remove(folder: str, item_ids: tuple[str, ...], graph: str | None, as_json: bool) -> None:
    """Take items out of the graph, with all that only they brought. Asks no language model."""
    from coldray.graph.build import remove_items

    _print(remove_items(_place(folder, graph), item_ids, _say), as_json)


def _run(
    folder: str, graph: str | None, items: str, as_json: bool, options: dict[str, Any], **how: Any
) -> None:
    from coldray.data.prepare import start_ray
    from coldray.graph.build import build_graph

    place = _place(folder, graph)
    settings = _settings(place, options["config"], options["model"])
    start_ray(options["address"])
    made = build_graph(items, place, settings, key=_key(settings), progress=Meter(), waiting=_say, **how)
    _print(made, as_json)


def _place(folder: str, graph: str | None) -> str:
    return graph or os.path.join(folder, "graph")


def _settings(place: str, config: str | None, model: str | None) -> "BuildSettings":
    from coldray.graph.build import read_settings
    from coldray.graph.settings import BuildSettings
    from coldray.llm.settings import VLLM
    from coldray.settings import load_yaml

    if config is None and model is not None and not os.path.exists(os.path.join(place, "build.json")):
        return BuildSettings(llm=VLLM(model=model))
    if config is None and not os.path.exists(os.path.join(place, "build.json")):
        raise UserError(
            "--config: says which language model to ask; give it, or --model with a model's folder"
        )
    settings = read_settings(place) if config is None else load_yaml(config, BuildSettings)
    if model is None:
        return settings
    if not isinstance(settings.llm, VLLM):
        raise UserError(
            f"--model {model}: is for vLLM, and the settings name another engine; change llm.model there"
        )
    return settings.model_copy(update={"llm": settings.llm.model_copy(update={"model": model})})


def _key(settings: "BuildSettings") -> Any:
    """Return the key of an OpenAI address, which only the environment says."""
    from pydantic import SecretStr

    from coldray.llm.settings import OpenAI

    if not isinstance(settings.llm, OpenAI) or settings.llm.key_variable not in os.environ:
        return None
    return SecretStr(os.environ[settings.llm.key_variable])


def _say(message: str) -> None:
    click.echo(message, err=True)


class Meter:
    """Progress on stderr: items, tokens a second and what is left."""

    def __init__(self) -> None:
        self.said = 0.0
        self.first: tuple[float, int, int] | None = None
        """time, items and tokens when the first was done: loading the model is left out of the rate"""

    def __call__(self, done: int, total: int, usage: Any) -> None:
        """Say how far it is, now and then."""
        if total == 0:
            return
        if done == 0:
            click.echo(f"{total} items to describe; the model is loaded first", err=True)
            return
        now, live = time.monotonic(), sys.stderr.isatty()
        if self.first is None:
            self.first = (now, done, usage.completion_tokens)
        if done < total and now - self.said < (0.5 if live else 15):
            return
        self.said = now
        seconds, items, tokens = (
            now - self.first[0],
            done - self.first[1],
            usage.completion_tokens - self.first[2],
        )
        rate = f", {tokens / seconds:.0f} tokens/s" if items else ""
        left = f", about {seconds / items * (total - done):.0f} s left" if items and done < total else ""
        end = "\r" if live and done < total else "\n"
        click.echo(f"described {done} of {total} items{rate}{left}   {end}", err=True, nl=False)


def _print(built: "Built", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(built)))
        return
    usage = built.usage
    click.echo(
        f"graph version {built.version}: {built.described} items described, {built.removed} removed, "
        f"{built.unchanged} unchanged, in {built.seconds:.0f} s"
    )
    if built.described:
        click.echo(
            f"{usage.calls} answers asked for, {usage.remembered} remembered; {usage.prompt_tokens:,} tokens read, "
            f"{usage.completion_tokens:,} written"
            + (f", at a cost of {built.cost:.4f}" if built.cost else "")
        )
    if built.dropped_relations:
        click.echo(
            f"{built.dropped_relations} relations named an entity that their answer does not have; left out",
            err=True,
        )
    for stage, count in built.failed.items():
        click.echo(f"{count} items failed at {stage}: see failed.parquet, and try --retry-failed", err=True)
