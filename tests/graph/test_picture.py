import json
from dataclasses import asdict
from html.parser import HTMLParser

import pytest

from coldray.errors import UserError
from coldray.graph.picture import around, as_html, as_text
from coldray.graph.store import GraphStore

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def store(catalogue, tmp_path_factory):
    uri = tmp_path_factory.mktemp("graph")
    items = {"1": ["ink", HOSTILE], "2": ["ink", "paper"], "3": ["box"]}
    catalogue.write(uri, items | {f"x{i}": ["ink"] for i in range(80)})
    return GraphStore.open(str(uri))


def test_an_item_its_entities_and_the_items_that_share_them(store):
    found = around(store, "1")
    assert found.nodes[0]["item_id"] == "1"
    assert [node["hops"] for node in found.nodes[:3]] == [0, 1, 1]
    assert {node["name"] for node in found.nodes if node["hops"] == 1} == {"ink", HOSTILE}
    assert len(found.nodes) == 60
    assert found.left_out == 1 + 2 + 81 + 1 - 60  # the item, its two, those that share ink, and paper
    for edge in found.edges:
        assert 0 <= edge["source"] < 60
        assert 0 <= edge["target"] < 60
    json.dumps(asdict(found))


def test_the_text_names_what_is_shared(store):
    text = as_text(around(store, "2"))
    assert text.startswith("T 2 (2)\n  profile of 2")
    assert "- paper (feature): 2 has paper" in text
    assert "more entities were left out" in text


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_text_stays_text(store):
    page = as_html(around(store, "1"))
    tags = Tags()
    tags.feed(page)
    assert tags.links == []
    assert "script" not in tags.tags
    assert tags.tags.count("circle") == 60
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_an_item_that_is_not_there_is_said(store):
    with pytest.raises(UserError, match="nobody: is no item of the graph"):
        around(store, "nobody")
