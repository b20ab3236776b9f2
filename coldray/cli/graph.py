"""`coldray graph`: the knowledge graph of a catalogue."""

import json
import os
import sys
import time
from contextlib import redirect_stdout
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
ADDRESS = click.option("--address", envvar="RAY_ADDRESS", help="Ray cluster.  [default: Ray on this machine]")
VERSION = click.option("--version", type=click.IntRange(min=1), help="Of the graph.  [default: the newest]")
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
@click.option("--split", metavar="NAME", help="Items of this split of the data set alone.")
@click.option(
    "--retry-failed", is_flag=True, help="Ask again about the items that failed, and about no others."
)
@ADDRESS
@JSON
def build(folder: str, graph: str | None, retry_failed: bool, as_json: bool, **options: Any) -> None:
    """Build the graph of the catalogue, or bring it up to date: only what changed is asked about.

    An interrupted build goes on where it stopped; a killed one asks again for what came in its last seconds.
    """
    limit, split = options.pop("limit"), options.pop("split")
    if split is not None:
        if limit is not None:
            raise UserError("--limit and --split: give one of them")
        limit = _items_of(folder, split)
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


@graph.command()
@DATASET
@GRAPH
@VERSION
@click.option("--png", metavar="FILE", help="Write the picture of types and relations there.")
@JSON
def stats(folder: str, graph: str | None, version: int | None, png: str | None, as_json: bool) -> None:
    """Say what the graph is made of."""
    from coldray import storage
    from coldray.graph.stats import as_text, graph_stats, heat_map
    from coldray.graph.store import GraphStore

    made = graph_stats(GraphStore.open(_place(folder, graph), version))
    click.echo(json.dumps(made.as_json()) if as_json else as_text(made))
    if png:
        storage.write_bytes(png, heat_map(made))
        click.echo(f"picture: {png}", err=True)


@graph.command()
@DATASET
@click.argument("item_id", metavar="ITEM")
@GRAPH
@VERSION
@click.option("--html", metavar="FILE", help="Draw it in a page of its own.")
@JSON
def show(
    folder: str, item_id: str, graph: str | None, version: int | None, html: str | None, as_json: bool
) -> None:
    """Show what is around an item: its entities, and the items that share them."""
    from coldray import storage
    from coldray.graph.picture import around, as_html, as_text
    from coldray.graph.store import GraphStore

    found = around(GraphStore.open(_place(folder, graph), version), item_id)
    click.echo(json.dumps(asdict(found)) if as_json else as_text(found))
    if html:
        storage.write_bytes(html, as_html(found).encode())
        click.echo(f"picture: {html}", err=True)


@graph.command()
@DATASET
@click.option("--format", "kind", type=click.Choice(["parquet", "graphml"]), required=True, help="For what.")
@click.option("--out", required=True, metavar="PATH", help="A folder for parquet, a file for graphml.")
@GRAPH
@VERSION
def export(folder: str, kind: str, out: str, graph: str | None, version: int | None) -> None:
    """Write the graph for other tools."""
    from coldray.graph.export import to_graphml, to_parquet
    from coldray.graph.store import GraphStore

    store = GraphStore.open(_place(folder, graph), version)
    (to_parquet if kind == "parquet" else to_graphml)(store, out)
    click.echo(f"{out}: {store.num_entities} entities, {store.num_relations} relations")


@graph.command()
@DATASET
@GRAPH
@JSON
def versions(folder: str, graph: str | None, as_json: bool) -> None:
    """List the versions of the graph."""
    from coldray.graph.store import manifests, read_manifest

    place = _place(folder, graph)
    found = [read_manifest(place, number) for number in manifests(place)] or [read_manifest(place)]
    if as_json:
        click.echo(json.dumps([asdict(manifest) for manifest in found]))
        return
    for manifest in found:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.created))
        counts = ", ".join(f"{manifest.counts[name]} {name}" for name in ("items", "entities", "relations"))
        click.echo(f"{manifest.version:>4}  {made}  {counts}  {manifest.note}")


@graph.command()
@DATASET
@click.argument("version", type=click.IntRange(min=1))
@GRAPH
def rollback(folder: str, version: int, graph: str | None) -> None:
    """Make an earlier version of the graph the newest again."""
    from coldray.graph.store import rollback as back

    click.echo(f"version {version} is now version {back(_place(folder, graph), version)}")


@graph.command()
@DATASET
@click.option("--keep", required=True, type=click.IntRange(min=1), help="Newest versions that stay.")
@GRAPH
def prune(folder: str, keep: int, graph: str | None) -> None:
    """Forget old versions of the graph and free what only they held."""
    from coldray.graph.store import prune as forget

    gone = forget(_place(folder, graph), keep)
    click.echo(f"{len(gone)} versions forgotten" + (f": {', '.join(map(str, gone))}" if gone else ""))


def _run(
    folder: str, graph: str | None, items: str, as_json: bool, options: dict[str, Any], **how: Any
) -> None:
    from coldray import storage
    from coldray.cli.llm import openai_key
    from coldray.data.prepare import start_ray
    from coldray.graph.build import build_graph

    place = _place(folder, graph)
    if not storage.exists(items):
        raise UserError(
            f"{items}: no such file; name a data set folder (coldray data prepare), or --items a Parquet file"
        )
    settings = _settings(place, options["config"], options["model"])
    key = openai_key(settings.llm)
    with redirect_stdout(sys.stderr):  # where Ray tells of its nodes
        start_ray(options["address"])
        made = build_graph(items, place, settings, key=key, progress=Meter(), waiting=_say, **how)
    _print(made, as_json)


def _items_of(folder: str, split: str) -> frozenset[str]:
    from coldray.data.dataset import load_split

    return frozenset(load_split(folder, split).item_ids.to_pylist())


def _place(folder: str, graph: str | None) -> str:
    return graph or os.path.join(folder, "graph")


def _settings(place: str, config: str | None, model: str | None) -> "BuildSettings":
    from coldray import storage
    from coldray.graph.build import read_settings
    from coldray.graph.settings import BuildSettings
    from coldray.llm.settings import VLLM
    from coldray.settings import load_yaml

    first = not storage.exists(storage.join(place, "build.json"))
    if config is None and model is not None and first:
        return BuildSettings(llm=VLLM(model=model))
    if config is None and first:
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
    if built.copied:
        click.echo(
            f"{built.copied} names and sentences were copied from the prompt's example; left out", err=True
        )
    for stage, count in built.failed.items():
        click.echo(f"{count} items failed at {stage}: see failed.parquet, and try --retry-failed", err=True)
