import pyarrow as pa
import pytest

from coldray.errors import UserError
from coldray.graph.catalogue import content_of, read_item, text_columns
from coldray.graph.settings import BuildSettings

LLM = {"engine": "vllm", "model": "m"}
ROW = {
    "item_id": "7",
    "title": "<b>Red&nbsp;pen</b>",
    "description": "['One', 'two']",
    "brand": "Pen\x00Co",
    "tags": ["a", "b", "a", None],
    "year": 1999,
}


def settings(**changes):
    return BuildSettings.model_validate({"llm": LLM} | changes)


def test_all_columns_but_ids_and_vectors_tell_of_an_item():
    table = pa.table({"item_id": ["1"], "title": ["t"], "vector": [[0.5]], "tags": [["a"]], "year": [1]})
    assert text_columns(table.schema, settings(), "items") == ["title", "tags", "year"]
    assert text_columns(table.schema, settings(columns=["tags"]), "items") == ["tags"]
    with pytest.raises(
        UserError, match="items: has no column 'brand'; name columns of: title, vector, tags, year"
    ):
        text_columns(table.schema, settings(entities={"brand": "brand"}), "items")


def test_an_item_is_plain_text_without_control_characters():
    item = read_item(ROW, ["title", "description", "brand", "year"], settings())
    assert item.title == "Red pen"
    assert item.fields == {"title": "Red pen", "description": "One, two", "brand": "Pen Co", "year": "1999"}


def test_values_of_columns_are_entities_once_each():
    item = read_item(ROW, [], settings(entities={"brand": "brand", "tags": "tag", "description": "part"}))
    assert item.values == [("brand", "Pen Co"), ("tag", "a"), ("tag", "b"), ("part", "One"), ("part", "two")]


def test_values_may_be_separated():
    row = {"item_id": "1", "genres": "Comedy|Sci-Fi||Comedy "}
    item = read_item(row, [], settings(entities={"genres": "genre"}, separators={"genres": "|"}))
    assert item.values == [("genre", "Comedy"), ("genre", "Sci-Fi")]


def test_an_item_without_title_or_text_has_its_id():
    row = {"item_id": "7", "title": None, "brand": None}
    item = read_item(row, ["title", "brand"], settings(entities={"brand": "brand"}))
    assert (item.title, item.fields, item.values) == ("7", {"title": "", "brand": ""}, [])


def test_the_content_changes_with_what_is_used_alone():
    columns = ["title", "brand"]
    content = content_of(ROW, columns, "recipe")
    assert content == content_of(ROW | {"year": 2000}, columns, "recipe")
    assert content != content_of(ROW | {"brand": "other"}, columns, "recipe")
    assert content != content_of(ROW, columns, "another recipe")
