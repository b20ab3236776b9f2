"""MovieLens: 100k (u.data, u.item), 1M, 10M (ratings.dat, movies.dat), 20M on (ratings.csv, movies.csv).

Items have `title` without its trailing year, `year` and `genres`.
"""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from coldray.data import columns as c
from coldray.data.readers.base import Batch, Faults, Files, Reader, Unit, basename, require_columns
from coldray.data.readers.text import csv_batches, csv_rows, open_text, row_batches, split_rows
from coldray.data.recipe import Recipe
from coldray.errors import UserError

PAIRS = {"u.data": "u.item", "ratings.dat": "movies.dat", "ratings.csv": "movies.csv"}
RATINGS = [c.USER, c.ITEM, c.RATING, c.TIME]
CSV_NAMES = {"userId": c.USER, "movieId": c.ITEM, "rating": c.RATING, "timestamp": c.TIME}
GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
]
U_ITEM = [c.ITEM, "title", "release", "video", "url", *GENRES]
YEAR = re.compile(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})[^()]*\))?\s*$")


def _find(names: list[str]) -> Files:
    by_name = {basename(name): name for name in names}
    for ratings, movies in PAIRS.items():
        if ratings in by_name:
            return Files([(by_name[ratings],)], [(by_name[movies],)] if movies in by_name else [])
    raise UserError(f"has none of {', '.join(PAIRS)}; name the folder or file of a MovieLens release")


def _interactions(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    uri, name = unit[0], basename(unit[0])
    if name.endswith(".csv"):
        for batch in csv_batches(uri):
            require_columns(uri, list(CSV_NAMES), batch.table.column_names, "fetch the release again")
            table = batch.table.select(list(CSV_NAMES)).rename_columns(list(CSV_NAMES.values()))
            yield Batch(table, batch.rows, batch.order, batch.faults)
        return
    with open_text(uri) as stream:
        faults = Faults()
        rows = csv_rows(stream, uri, "\t", False, faults) if name == "u.data" else split_rows(stream, "::")
        yield from row_batches(rows, RATINGS, uri, faults)


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    uri, name = unit[0], basename(unit[0])
    if name.endswith(".csv"):
        for batch in csv_batches(uri):
            require_columns(
                uri, ["movieId", "title", "genres"], batch.table.column_names, "fetch the release again"
            )
            yield _movies(batch, batch.table["movieId"], batch.table["genres"])
        return
    with open_text(uri, _encoding(uri)) as stream:
        faults = Faults()
        if name == "u.item":
            for batch in row_batches(csv_rows(stream, uri, "|", False, faults), U_ITEM, uri, faults):
                yield _movies(batch, batch.table[c.ITEM], _flagged(batch.table))
        else:
            for batch in row_batches(split_rows(stream, "::"), [c.ITEM, "title", "genres"], uri, faults):
                yield _movies(batch, batch.table[c.ITEM], batch.table["genres"])


def _encoding(uri: str) -> str:
    """Return how a file of movies is encoded: 100k and 1M are Latin-1, 10M is UTF-8, and none says so."""
    with open_text(uri) as stream:
        return "latin-1" if any("\udc80" <= character <= "\udcff" for character in stream.read()) else "utf-8"


def _flagged(table: pa.Table) -> pa.Array:
    """Return the genres whose column says 1, divided by |, for each row of u.item."""
    flags = [[genre if flag == "1" else "" for flag in table[genre].to_pylist()] for genre in GENRES]
    return pa.array(["|".join(filter(None, row)) for row in zip(*flags, strict=True)], pa.string())


def _movies(batch: Batch, ids: pa.ChunkedArray, genres: pa.Array) -> Batch:
    """Return items with title and year apart and genres divided by commas."""
    parts = [YEAR.match(title or "") for title in batch.table["title"].to_pylist()]
    data = {
        c.ITEM: ids,
        "title": pa.array([match["title"] if match else None for match in parts], pa.string()),
        "year": pa.array([match["year"] if match else None for match in parts], pa.string()),
        "genres": pc.replace_substring(genres.cast(pa.string()), "|", ", "),
    }
    return Batch(pa.table(data), batch.rows, batch.order, batch.faults)


READER = Reader(_find, _interactions, _items)
