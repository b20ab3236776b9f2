"""`coldray recommend`: what a sweep's model recommends to users."""

from typing import Any

import click

FORMATS = (".parquet", ".csv", ".jsonl")


@click.command()
@click.argument("name")
@click.option("--runs", default="runs", show_default=True, help="Folder or URI of the sweep's results.")
@click.option("--user", "users", multiple=True, metavar="ID", help="A user of the data set; may be repeated.")
@click.option(
    "--history",
    multiple=True,
    metavar="ITEM",
    help="An item of a user who is in no data set; repeat, oldest first.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    help="Write to a .parquet, .csv or .jsonl file; all users by default.",
)
@click.option(
    "--count", default=10, show_default=True, type=click.IntRange(1, 1000), help="Items for each user."
)
@click.option("--method", help="Of the sweep. [default: delta+selected, else the baseline]")
@click.option("--k", type=int, help="Of the method, where it has several.")
@click.option("--seed", type=int, help="Of the sweep. [default: the first]")
def recommend(name: str, runs: str, out: str | None, count: int, **options: Any) -> None:
    """Recommend items, cold ones included, with what the sweep NAME trained and chose."""
    from coldray.errors import UserError
    from coldray.sweep.recommend import pick_cell
    from coldray.sweep.recommend import recommend as recommendations
    from coldray.sweep.run import load_sweep
    from coldray.sweep.work import Workspace

    users, history = list(options["users"]) or None, list(options["history"]) or None
    if users is not None and history is not None:
        raise UserError("--user and --history: give one of them")
    if out is None and users is None and history is None:
        raise UserError("--user, --history or --out: say for whom, or where to write what all users get")
    if out is not None and not out.endswith(FORMATS):
        raise UserError(f"{out}: end the name in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    settings, _ = load_sweep(runs, name)
    cell = pick_cell(settings, options["method"], options["k"], options["seed"])
    workspace = Workspace(settings.dataset, runs, share_backbones=settings.share_backbones)
    table = recommendations(workspace, cell, users, history, count)
    if out is not None:
        _write(table, out)
        click.echo(f"{out}: {table.num_rows:,} recommendations", err=True)
    else:
        _show(table)


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
