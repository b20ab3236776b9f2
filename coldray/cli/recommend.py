"""`coldray recommend`: what a sweep's model recommends to users."""

from typing import Any

import click

FORMATS = (".parquet", ".csv", ".jsonl")


@click.command()
@click.argument("target", metavar="NAME|DIR")
@click.option("--runs", default="runs", show_default=True, help="Folder or URI of the sweep's results.")
@click.option("--user", "users", multiple=True, metavar="ID", help="A user of the data set; may be repeated.")
@click.option(
    "--history",
    multiple=True,
    metavar="ITEM",
    help="An item's id, oldest first; for a graph a title or any text, too. Repeat it.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    help="Write to a .parquet, .csv or .jsonl file; all users by default.",
)
@click.option(
    "-k",
    "--count",
    default=10,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Items for each user.",
)
@click.option("--method", help="Of the sweep. [default: delta+selected, else the baseline]")
@click.option("--neighbors", type=int, help="K of the method, where it has several.")
@click.option("--seed", type=int, help="Of the sweep. [default: the first]")
@click.option("--graph", metavar="PATH", help="The graph's folder or URI. [default: DIR/graph]")
@click.option("--version", type=click.IntRange(min=1), help="Of the graph. [default: the newest]")
@click.option("--settings", metavar="FILE", help="YAML of how the graph is walked and ranked.")
@click.option("--scorer", type=click.Choice(["llm", "embedding", "hybrid"]), help="Goes before the file's.")
@click.option("--ranker", type=click.Choice(["llm", "scores", "fusion"]), help="Goes before the file's.")
@click.option("--explain", is_flag=True, help="Draw the evidence of each item, and tell what each hop did.")
@click.option("--json", "as_json", is_flag=True, help="Print the graph's answer as JSON.")
def recommend(target: str, **options: Any) -> None:
    """Recommend items, cold ones included.

    NAME is a sweep: with what it trained and chose. DIR is a data set folder with a graph (coldray graph build): by walking the
    graph from a history. Settings that ask a language model ask the one that built the graph.
    """
    import os

    if options["graph"] or os.path.isdir(os.path.join(target, "graph")):
        _from_graph(options["graph"] or os.path.join(target, "graph"), options)
    else:
        _from_sweep(target, options)


def _from_sweep(name: str, options: dict[str, Any]) -> None:
    from coldray.errors import UserError
    from coldray.sweep.recommend import pick_cell
    from coldray.sweep.recommend import recommend as recommendations
    from coldray.sweep.run import load_sweep
    from coldray.sweep.work import Workspace

    users, history, out = list(options["users"]) or None, list(options["history"]) or None, options["out"]
    if users is not None and history is not None:
        raise UserError("--user and --history: give one of them")
    if out is None and users is None and history is None:
        raise UserError("--user, --history or --out: say for whom, or where to write what all users get")
    if out is not None and not out.endswith(FORMATS):
        raise UserError(f"{out}: end the name in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    settings, _ = load_sweep(options["runs"], name)
    cell = pick_cell(settings, options["method"], options["neighbors"], options["seed"])
    workspace = Workspace(settings.dataset, options["runs"], share_backbones=settings.share_backbones)
    table = recommendations(workspace, cell, users, history, options["count"])
    if out is not None:
        _write(table, out)
        click.echo(f"{out}: {table.num_rows:,} recommendations", err=True)
    else:
        _show(table)


def _from_graph(graph: str, options: dict[str, Any]) -> None:
    import asyncio

    from coldray.cli.evidence import show
    from coldray.errors import UserError
    from coldray.retrieval.settings import RetrievalSettings
    from coldray.settings import load_yaml

    for name in ("users", "out", "method"):
        if options[name]:
            raise UserError(f"--{name.rstrip('s')}: is for a sweep; give a graph a --history")
    file = options["settings"]
    given = load_yaml(file, RetrievalSettings) if file else RetrievalSettings()
    changed = {name: options[name] for name in ("scorer", "ranker") if options[name]}
    settings = given.model_copy(update=changed)
    found = asyncio.run(_walk(graph, settings, options))
    if options["as_json"]:
        click.echo(found.model_dump_json(indent=2))
    else:
        show(found, options["explain"])


async def _walk(graph: str, settings: Any, options: dict[str, Any]) -> Any:
    """Return the recommendation for a history, by a model of our own where the settings ask one."""
    from coldray.encode.sentence_model import TextEncoder
    from coldray.graph.build import read_settings
    from coldray.graph.store import GraphStore
    from coldray.retrieval.recommend import Recommender

    store, built = GraphStore.open(graph, options["version"]), read_settings(graph)
    engine = _engine(built.llm) if settings.asks_model() else None
    try:
        recommender = Recommender(store, TextEncoder(built.sentence_model), engine)
        return await recommender.recommend(options["history"], options["count"], settings, options["explain"])
    finally:
        if engine is not None:
            await engine.close()


def _engine(llm: Any) -> Any:
    """Return the language model that built the graph, running."""
    import os

    from coldray.cli.llm import openai_key
    from coldray.llm.cached import Cached
    from coldray.llm.placement import ENVIRONMENT
    from coldray.llm.settings import Shared, make_engine

    click.echo(f"asking {getattr(llm, 'model', llm.engine)}; a local model is loaded first", err=True)
    os.environ.update(
        ENVIRONMENT | {"VLLM_LOGGING_LEVEL": "ERROR"}
    )  # its warnings are not for who reads the list
    if isinstance(llm, Shared):
        from coldray.data.prepare import start_ray

        start_ray("auto")
    return Cached(make_engine(llm, openai_key(llm)))


def _write(table: Any, out: str) -> None:
    """Write a table in the format that the file's name asks for."""
    import json

    from pyarrow import csv

    from coldray import storage

    if out.endswith(".parquet"):
        storage.write_table(out, table)
    elif out.endswith(".csv"):
        csv.write_csv(table, out)
    else:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        storage.write_bytes(out, "".join(lines).encode())


def _show(table: Any) -> None:
    """Print recommendations, user by user."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    shown = Table(box=None, header_style="bold")
    for heading in table.column_names:
        number = heading in ("rank", "score")
        shown.add_column(heading.replace("_id", ""), justify="right" if number else "left")
    for row in table.to_pylist():
        row |= {"score": f"{row['score']:.3f}", "cold": "cold" if row["cold"] else ""}
        shown.add_row(*(escape(str(value)) if value is not None else "" for value in row.values()))
    console.print(shown)
