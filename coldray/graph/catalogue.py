"""Rows of the catalogue as a prompt and the graph want them."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from coldray.data import columns as c
from coldray.encode.text import clean
from coldray.errors import UserError
from coldray.graph.settings import BuildSettings
from coldray.llm.prompt import one_line
from coldray.settings import digest

TITLE = "title"
_MOST_VALUES = 32
"""of a field whose values are entities"""


@dataclass(frozen=True)
class CatalogueItem:
    """An item as the catalogue has it."""

    item_id: str
    title: str
    """its id where the catalogue has no title"""
    fields: dict[str, str]
    """column to plain text, "" where it says nothing"""
    values: list[tuple[str, str]]
    """type and name of each entity that a column says as it stands"""


def text_columns(schema: pa.Schema, settings: BuildSettings, where: str) -> list[str]:
    """Return the columns that profiles are written from. Raises UserError for one that is not there."""
    wanted = [*(settings.columns or ()), *settings.entities, *settings.separators]
    for name in wanted:
        if name not in schema.names:
            known = ", ".join(name for name in schema.names if name != c.ITEM)
            raise UserError(f"{where}: has no column {name!r}; name columns of: {known}")
    if settings.columns is not None:
        return list(settings.columns)
    return [field.name for field in schema if field.name != c.ITEM and not _is_vector(field.type)]


def _is_vector(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed and pa.types.is_floating(kind.value_type))


def read_item(row: dict[str, Any], columns: list[str], settings: BuildSettings) -> CatalogueItem:
    """Return a row of the catalogue: markup removed, lists joined, control characters and repeated space gone."""
    fields = {name: _text(row[name]) for name in columns}
    values = []
    for name, kind in settings.entities.items():
        given = row[name] if isinstance(row[name], list) else _split(row[name], settings.separators.get(name))
        named = dict.fromkeys(filter(None, map(_text, given)))
        values += [(kind, value) for value in list(named)[:_MOST_VALUES]]
    item_id = str(row[c.ITEM])
    return CatalogueItem(item_id, _text(row.get(TITLE)) or item_id, fields, values)


def _text(value: Any) -> str:
    return one_line(clean(value))


def _split(value: Any, separator: str | None) -> list[Any]:
    """Return the values of a field that is one, several with a separator, or a list that the catalogue wrote as text."""
    if value is None:
        return []
    if separator:
        return str(value).split(separator)
    text = clean(value)
    stripped = str(value).strip()
    return text.split(", ") if stripped.startswith("[") and not text.startswith("[") else [text]


def content_of(row: dict[str, Any], columns: list[str], recipe: str) -> str:
    """Return the hash of all that an item's part of the graph is made of, 16 hex digits."""
    wanted = sorted({c.ITEM, TITLE, *columns} & row.keys())
    return digest([recipe, [[name, str(row[name])] for name in wanted]])
