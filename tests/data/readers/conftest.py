"""A source read without Ray: what its reader and the checks make of a folder of published files."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from coldray.data.checks import check_interactions, check_items
from coldray.data.readers import READERS
from coldray.data.readers.base import Faults, list_files
from coldray.data.recipe import Recipe


@pytest.fixture
def read_source() -> Callable[..., SimpleNamespace]:
    def read(source: Path, format_: str, **options: Any) -> SimpleNamespace:
        recipe, reader = Recipe(format=format_, **options), READERS[format_]
        folder, names = list_files(str(source))
        files, faults, made = reader.find(names), Faults(), {"interactions": [], "items": []}
        for kind, parts in made.items():
            for unit in getattr(files, kind):
                uris = tuple(f"{folder}/{name}" for name in unit)
                for batch in getattr(reader, kind)(uris, recipe):
                    if kind == "items":
                        table, found = check_items(batch, uris[0])
                    else:
                        table, found = check_interactions(batch, uris[0], 0, recipe.threshold)
                    parts.append(table)
                    faults.extend(found)
        tables = {
            kind: pa.concat_tables(parts, promote_options="permissive").to_pylist() if parts else []
            for kind, parts in made.items()
        }
        return SimpleNamespace(**tables, faults=faults)

    return read
