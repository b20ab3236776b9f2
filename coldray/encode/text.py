"""The text of an item, put together from the columns of the catalogue."""

import ast
import json
import math
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
from pydantic import Field

from coldray.errors import UserError
from coldray.settings import Settings

_SPACE = re.compile(r"\s+")
# Longer texts are never lists that a catalogue wrote as text, and parsing them costs.
_LONGEST_LIST = 20_000


class TextRecipe(Settings):
    """How the text of an item is made: columns in this order, empty ones left out."""

    columns: tuple[str, ...] = Field(
        default=("title",), min_length=1, description="columns of items.parquet, in the order of the text"
    )
    separator: str = Field(default="; ", description="between two columns")
    prefix: str = Field(
        default="", description='put before every text; some models want one, as e5 does "query: "'
    )


def item_texts(items: pa.Table, recipe: TextRecipe, where: str) -> list[str]:
    """Return the text of every row of `items`, "" where no column says anything.

    Markup is removed, entities are resolved, white space is collapsed, and lists, also those written as text
    (`"['a', 'b']"`), become `a, b`. Raises UserError, naming `where`, if a column is not there.
    """
    for name in recipe.columns:
        if name not in items.column_names:
            columns = ", ".join(items.column_names)
            raise UserError(f"{where}: has no column {name!r}; choose --columns from: {columns}")
    cleaned = [[clean(value) for value in items[name].to_pylist()] for name in recipe.columns]
    texts = [recipe.separator.join(filter(None, fields)) for fields in zip(*cleaned, strict=True)]
    return [recipe.prefix + text if text else "" for text in texts]


def clean(value: Any) -> str:
    """Return one field as plain text on one line; "" for null, NaN and empty lists."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        listed = _as_list(value)
        return _plain(value) if listed is None else _joined(listed)
    if isinstance(value, list):
        return _joined(value)
    return str(value)


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(filter(None, map(clean, values)))


def _as_list(text: str) -> list[Any] | None:
    """Return the list that `text` is the JSON or Python notation of; None if it is not one."""
    stripped = text.strip()
    if len(stripped) > _LONGEST_LIST or not (stripped.startswith("[") and stripped.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):  # neither runs anything
        try:
            value = parse(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list):
            return value
    return None


class _Text(HTMLParser):
    """Collects what a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style")
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style") and self.hidden > 0
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def _plain(text: str) -> str:
    """Return `text` without markup, its white space collapsed."""
    if "<" in text or "&" in text:
        parser = _Text()
        parser.feed(text)
        parser.close()
        text = "".join(parser.parts)
    return _SPACE.sub(" ", text).strip()
