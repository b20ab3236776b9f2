"""`coldray data`: make a data set of published files, divide it, and see what is in it."""

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any, TypeVar, get_args

import click
from pydantic import ValidationError

from coldray.data.recipe import Format, Recipe
from coldray.errors import UserError
from coldray.settings import Settings, explain

S = TypeVar("S", bound=Settings)
BAR = 32
"""Width of the longest bar of a histogram, in characters."""


@click.group()
def data() -> None:
    """Make, divide and describe data sets."""


@data.command()
@click.argument("source")
@click.option("--out", required=True, help="Folder of the data set to make; a path or a URI.")
@click.option(
    "--format", "format_", type=click.Choice(get_args(Format)), required=True, help="Format of SOURCE."
)
@click.option("--items", help="Table of items, where SOURCE does not hold one.")
@click.option("--min-rating", type=float, help="Keep ratings above this. [rated formats: 3; else all]")
@click.option("--min-play-seconds", type=float, help="zvuk: keep plays longer than this. [60]")
@click.option("--k-core", type=int, help="Least interactions of every user and item; 0 is off. [0]")
@click.option(
    "--drop-consecutive-duplicates/--keep-consecutive-duplicates",
    default=None,
    help="Make repeats of an item in a row one. [amazon_m2, zvuk: drop; else keep]",
)
@click.option("--sample-users", type=int, help="Keep this many users, drawn by --seed. [all]")
@click.option("--seed", type=int, help="Draws the users of --sample-users. [42]")
@click.option("--locale", help="amazon_m2: keep one shop, such as FR. [all]")
@click.option("--user-column", help="table, recbole: column of users. [user_id]")
@click.option("--item-column", help="table, recbole: column of items, in both tables. [item_id]")
@click.option("--timestamp-column", help="table, recbole: column of times. [timestamp, if there]")
@click.option("--rating-column", help="table, recbole: column of ratings. [rating, if there]")
@click.option(
    "--position-column", help="table, recbole: column that orders a user's rows. [position, if there]"
)
@click.option("--rename", multiple=True, metavar="OLD=NEW", help="Rename a column of items; may be repeated.")
@click.option("--buckets", type=int, help="Parts that the users are divided into. [by the size of SOURCE]")
@click.option("--strict", is_flag=True, help="Refuse rows that cannot be used instead of skipping them.")
@click.option("--overwrite", is_flag=True, help="Replace what another recipe or other files made at --out.")
@click.option("--address", envvar="RAY_ADDRESS", help="Ray cluster to run on. [this machine]")
@click.option("--num-cpus", type=int, help="Cores of this machine to use. [all]")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def prepare(source: str, out: str, format_: str, **options: Any) -> None:
    """Make a data set of the published files at SOURCE, a file or folder, by path or URI."""
    from coldray.data import prepare as stage  # starts with Ray, which takes seconds to import

    names = [name for name in Recipe.model_fields if name in options and name != "rename"]
    given: dict[str, Any] = {name: options[name] for name in names if options[name] is not None}
    recipe = checked(Recipe, {"format": format_, "rename": renames(options["rename"]), **given})
    with redirect_stdout(sys.stderr):  # where Ray tells of its nodes
        manifest, made = stage.prepare(
            source,
            out,
            recipe,
            options["items"],
            strict=options["strict"],
            overwrite=options["overwrite"],
            start=lambda: stage.start_ray(
                options["address"], options["num_cpus"], progress=sys.stderr.isatty()
            ),
        )
    skipped = manifest["skipped"]
    if made and skipped["count"]:
        click.echo(f"skipped {skipped['count']:,} rows; the first of them:", err=True)
        for fault in skipped["samples"]:
            click.echo(
                f"  {fault['file']}: row {fault['row']}: {fault['field']}: {fault['reason']}", err=True
            )
    if not made:
        click.echo(f"{out}: is up to date", err=True)
    if options["as_json"]:
        click.echo(json.dumps(manifest, indent=1, ensure_ascii=False))
        return
    counts = manifest["counts"]
    click.echo(
        f"{out}: {counts['users']:,} users, {counts['items']:,} items "
        f"({counts['items_described']:,} described), "
        f"{counts['interactions']:,} interactions, fingerprint {manifest['fingerprint'][:16]}"
    )


@data.command()
@click.argument("dataset")
@click.option(
    "--protocol",
    type=click.Choice(["temporal", "leave_one_out", "strict_cold", "amazon_m2"]),
    default="temporal",
    show_default=True,
)
@click.option(
    "--k-core", type=int, help="Least interactions of users and items in training. [temporal: 3; else 0]"
)
@click.option("--quantile", type=float, help="temporal: of all times, the threshold. [0.9]")
@click.option(
    "--full-history/--core-history",
    default=None,
    help="temporal: test histories without the k-core or with. [full]",
)
@click.option(
    "--train-fraction", type=float, help="temporal, amazon_m2: of users that train. [0.9, amazon_m2: 0.8]"
)
@click.option(
    "--cold-fraction", type=float, help="leave_one_out, strict_cold: of items, cold. [strict_cold: 0.1]"
)
@click.option(
    "--cold-max-train", type=int, help="leave_one_out: fewer training interactions make an item cold. [1]"
)
@click.option("--seed", type=int, help="Of what is drawn. [42]")
@click.option("--name", help="Name of the split. [the protocol]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def split(dataset: str, name: str | None, as_json: bool, **options: Any) -> None:
    """Divide the data set DATASET for training, validation and test."""
    from coldray.data import split as stage
    from coldray.data.dataset import save_split, split_folder

    settings = checked(
        stage.SplitSettings, {key: value for key, value in options.items() if value is not None}
    )
    table, manifest = stage.read_interactions(dataset)
    made = stage.make_split(table, settings, manifest["fingerprint"], plain_name(name or settings.protocol))
    notes = stage.notes(made)
    save_split(made, split_folder(dataset, made.name), settings.model_dump(mode="json"), notes)
    for note in notes:
        click.echo(f"warning: {dataset}: split {made.name}: {note}", err=True)
    cold_targets = int(made.cold[made.test.targets].sum())
    figures = {
        "name": made.name,
        "fingerprint": made.fingerprint,
        "items": made.num_items,
        "warm_items": made.num_warm,
        "cold_items": made.num_cold,
        "train_users": len(made.train),
        "validation_users": len(made.validation),
        "test_users": len(made.test),
        "cold_targets": cold_targets,
        "notes": notes,
    }
    if as_json:
        click.echo(json.dumps(figures, indent=1))
        return
    click.echo(
        f"{dataset}: split {made.name}: {made.num_warm:,} warm and {made.num_cold:,} cold items; users: "
        f"{len(made.train):,} train, {len(made.validation):,} validation, {len(made.test):,} test "
        f"({cold_targets:,} with a cold target); fingerprint {made.fingerprint[:16]}"
    )


@data.command()
@click.argument("dataset")
@click.option("--split", "split_", help="Name of a split to describe as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--figure", type=click.Path(dir_okay=False), help="Draw the distributions to this file (png, svg, pdf)."
)
def describe(dataset: str, split_: str | None, as_json: bool, figure: str | None) -> None:
    """Say what is in the data set DATASET: counts, cold share, lengths and popularity."""
    from coldray.data.describe import Description

    description = Description(dataset, split_)
    figures = description.figures()
    if figure is not None:
        if not figure.endswith((".png", ".svg", ".pdf")):
            raise UserError(f"{figure}: is of no kind that can be drawn; end the name in .png, .svg or .pdf")
        description.draw(figure)
        click.echo(f"wrote {figure}", err=True)
    if as_json:
        click.echo(json.dumps(figures, indent=1, ensure_ascii=False))
    else:
        show(figures)


def show(figures: dict[str, Any]) -> None:
    """Print a description as tables, with a bar for each class of a histogram."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    counts = figures["counts"]
    summary = Table(
        show_header=False, box=None, title=figures["dataset"], title_justify="left", title_style="bold"
    )
    summary.add_column()
    summary.add_column(justify="right")
    for key in ("users", "items", "items_described", "interactions"):
        summary.add_row(key.replace("_", " "), f"{counts[key]:,}")
    summary.add_row("density", f"{counts['density']:.4%}")
    summary.add_row("rows skipped", f"{figures['skipped']:,}")
    summary.add_row("fingerprint", figures["fingerprint"][:16])
    if "split" in figures:
        for key, value in split_rows(figures["split"]):
            summary.add_row(key, value)
    console.print(summary)
    for title, key in (
        ("interactions of a user", "sequence_length"),
        ("interactions of an item", "item_popularity"),
    ):
        console.print(histogram(title, figures[key]))


def split_rows(split: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of a split, a label and a value a row."""
    rows = [("split", split["name"]), ("split fingerprint", split["fingerprint"][:16])]
    rows += [(f"{part} users", f"{split[f'{part}_users']:,}") for part in ("train", "validation", "test")]
    rows += [
        (f"cold share of {key.replace('_', ' ')}", f"{share:.2%}")
        for key, share in split["cold_share"].items()
    ]
    return rows + [("note", note) for note in split["notes"]]


def histogram(title: str, distribution: dict[str, Any]) -> Any:
    """Return a rich table of a distribution: its classes with bars, quantiles below."""
    from rich.table import Table

    counts = distribution["histogram"]
    quantiles = distribution["quantiles"]
    caption = "  ".join(f"{float(q):.0%} {value:.0f}" for q, value in quantiles.items())
    caption = f"mean {distribution['mean']:.1f}   quantiles: {caption}"
    table = Table(box=None, show_header=False, title=f"\n{title}", title_justify="left", title_style="bold")
    table.caption, table.caption_justify, table.caption_style = caption, "left", "dim"
    table.add_column(justify="right")
    table.add_column(min_width=BAR)
    table.add_column(justify="right")
    for name, count in counts.items():
        table.add_row(name, bar(count / max(counts.values())), f"{count:,}")
    return table


def bar(share: float) -> str:
    """Return a bar of eighths of characters, `share` of the full width; little is not drawn as nothing."""
    eighths = max(round(share * BAR * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else "▏▎▍▌▋▊▉"[eighths % 8 - 1])


def checked(kind: type[S], values: Mapping[str, Any]) -> S:
    """Return settings made of options. Raises UserError that names the option at fault."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"options: {explain(error)}") from error


def renames(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return OLD=NEW pairs as a mapping. Raises UserError for one of another form."""
    for pair in pairs:
        if not all(pair.partition("=")):
            raise UserError(
                f"--rename {pair}: is not OLD=NEW; write, for example, --rename movie_title=title"
            )
    return {pair.partition("=")[0]: pair.partition("=")[2] for pair in pairs}


def plain_name(name: str) -> str:
    """Return a name that is safe as a folder. Raises UserError for another."""
    if not name or name.startswith(".") or any(part in name for part in ("/", "\\", "\0")):
        raise UserError(f"--name {name}: cannot be a folder; use letters, digits, - and _")
    return name
