"""`coldray encode`: item embeddings of a data set, by a sentence model or from given vectors."""

import json
import os
import re
import sys
from contextlib import redirect_stdout
from typing import Any

import click

from coldray.errors import UserError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option("--model", help="Sentence model: a folder or a name of the hub.  [default: packaged MiniLM]")
@click.option("--columns", default="title", show_default=True, help="Columns of the text, joined with '; '.")
@click.option("--prefix", default="", help="Put before every text; e5 models want 'query: '.")
@click.option("--name", help="Name of the embedding.  [default: minilm, or that of the model or file]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Texts at once; a large GPU gains from more.")
@click.option("--device", help="cpu, cuda, cuda:1 …  [default: the GPU where the cluster has one]")
@click.option("--from-vectors", metavar="FILE", help="Take given vectors: Parquet, or .npy with --ids.")
@click.option(
    "--vector-column", default="embedding", show_default=True, help="List column in the Parquet file."
)
@click.option("--ids", metavar="FILE", help="Item ids of a .npy file, one a line.")
@click.option("--address", envvar="RAY_ADDRESS", help="Ray cluster.  [default: Ray on this machine]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def encode(folder: str, as_json: bool, **options: Any) -> None:
    """Make the embedding of every item of the data set DIR, in DIR/embeddings/NAME.

    An interrupted run goes on where it stopped; a finished one is not repeated.
    """
    make = _take_vectors if options["from_vectors"] else _encode_texts
    with redirect_stdout(sys.stderr):  # where Ray tells of its nodes
        result = make(folder, options)
    if as_json:
        click.echo(json.dumps(result))
        return
    state = (
        "up to date"
        if result["up_to_date"]
        else f"{result['encoded']} of {result['count']} items encoded now"
    )
    click.echo(f"{result['folder']}: {result['count']} items, {result['dim']} numbers each; {state}")
    if result["without_text"]:
        click.echo(f"{result['without_text']} items have no text; their vectors are zero", err=True)


def _take_vectors(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    from coldray.encode.vectors import import_vectors

    source = options["from_vectors"]
    if options["model"]:
        raise UserError("--from-vectors: takes no --model; give one of the two")
    if source.endswith(".npy") != bool(options["ids"]):
        raise UserError(f"--from-vectors {source}: a .npy file, and only that, needs --ids FILE")
    name = options["name"] or _as_name(source)
    manifest, done = import_vectors(folder, name, source, options["vector_column"], options["ids"])
    return _result(folder, name, manifest, manifest["count"] if done else 0, not done)


def _encode_texts(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    from coldray.data.prepare import start_ray
    from coldray.encode.pipeline import encode_items
    from coldray.encode.text import TextRecipe

    columns = tuple(filter(None, (column.strip() for column in options["columns"].split(","))))
    if not columns:
        raise UserError("--columns: names no column; give at least one, such as title")
    text = TextRecipe(columns=columns, prefix=options["prefix"])
    name = options["name"] or (_as_name(options["model"]) if options["model"] else "minilm")
    if options["address"]:
        start_ray(options["address"])
    given = {key: options[key] for key in ("device", "batch_size") if options[key] is not None}
    made = encode_items(folder, name, options["model"], text, progress=_progress, **given)
    return _result(folder, name, made.manifest, made.encoded, made.up_to_date)


def _result(
    folder: str, name: str, manifest: dict[str, Any], encoded: int, up_to_date: bool
) -> dict[str, Any]:
    kept = {key: manifest[key] for key in ("fingerprint", "dim", "count", "without_text")}
    path = os.path.join(folder, "embeddings", name)
    return {"folder": path, "name": name, **kept, "encoded": encoded, "up_to_date": up_to_date}


def _as_name(source: str) -> str:
    """Return a name for the embedding made of a model's name or a file's."""
    stem = re.sub(r"\.(parquet|npy)$", "", os.path.basename(source.rstrip("/")))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "vectors"


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total or not sys.stderr.isatty() else "\r"
    click.echo(f"encoded {done} of {total} items{end}", err=True, nl=False)
