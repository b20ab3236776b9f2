"""How the text of an item is made of its columns."""

import pyarrow as pa
import pytest

from coldray.encode.text import TextRecipe, clean, item_texts
from coldray.errors import UserError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (float("nan"), ""),
        ("  two \n words ", "two words"),
        ("<b>Bold</b> &amp; <i>plain</i><br/>next", "Bold & plain next"),
        ("<script>alert(1)</script>seen<style>p{}</style>", "seen"),
        ("5 < 6 and I <3 it & more", "5 < 6 and I <3 it & more"),
        ("unfinished <b", "unfinished <b"),
        ("['a', 'b <i>c</i>', None]", "a, b c"),
        ('["a", null, ["b"]]', "a, b"),
        ("[not a list", "[not a list"),
        ("[1st edition]", "[1st edition]"),
        ("[]", ""),
        (["x", None, "y"], "x, y"),
        ([], ""),
        (1995, "1995"),
    ],
)
def test_clean(value: object, expected: str) -> None:
    assert clean(value) == expected


def test_a_deeply_nested_text_is_kept_as_it_is() -> None:
    assert clean("[" * 5000 + "]" * 5000).startswith("[[")


def test_columns_are_joined_and_empty_ones_left_out() -> None:
    items = pa.table({"title": ["A", None, "C"], "brand": ["x", "", None], "tags": [["t", "u"], [], None]})
    recipe = TextRecipe(columns=("title", "brand", "tags"), prefix="query: ")
    assert item_texts(items, recipe, "here") == ["query: A; x; t, u", "", "query: C"]


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(UserError, match="here: has no column 'brand'; choose --columns from: title"):
        item_texts(pa.table({"title": ["A"]}), TextRecipe(columns=("title", "brand")), "here")
