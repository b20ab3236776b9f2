import json

import matplotlib.image
import numpy as np
import pytest

from coldray.graph.stats import as_text, graph_stats, heat_map
from coldray.graph.store import GraphStore

ITEMS = {"1": ["ab", "ink"], "2": ["ba", "paper"], "3": ["ba"], "4": []}


@pytest.fixture(scope="module")
def stats(catalogue, tmp_path_factory):
    uri = tmp_path_factory.mktemp("graph")
    catalogue.write(uri, ITEMS, above=0.999)
    return graph_stats(GraphStore.open(str(uri)))


def test_the_figures_are_those_of_the_merged_graph(stats):
    assert (stats.items, stats.entities, stats.merged) == (4, 7, 1)
    assert stats.types == {"item": 4, "feature": 3}
    # Items 1, 2 and 3 share one feature; 1 and 2 have another; features that stand together are related.
    assert stats.edges.tolist() == [[0, 5], [5, 2]]
    assert stats.relations == 7
    assert stats.isolated == 1
    assert (stats.components, stats.largest) == (1, 6)
    assert sum(stats.degrees.values()) == stats.entities
    assert stats.mean_degree == pytest.approx(2 * stats.relations / stats.entities)
    assert stats.hubs[0] == ("feature", "ba", 5)


def test_the_figures_are_json_and_text(stats):
    made = json.loads(json.dumps(stats.as_json()))
    assert made["edges"] == {"item - feature": 5, "feature - feature": 2}
    text = as_text(stats)
    assert "4 items, 7 entities (1 more names mean one of them), 7 relations" in text
    assert "ba (feature)" in text


def test_the_picture_is_a_picture(stats, tmp_path):
    (tmp_path / "types.png").write_bytes(heat_map(stats))
    pixels = matplotlib.image.imread(tmp_path / "types.png")
    assert pixels.shape[0] > 300
    assert np.ptp(pixels[..., :3]) > 0.5


def test_a_graph_without_relations_has_figures(catalogue, tmp_path):
    catalogue.write(tmp_path, {"1": []})
    stats = graph_stats(GraphStore.open(str(tmp_path)))
    assert (stats.entities, stats.relations, stats.isolated, stats.components) == (1, 0, 1, 0)
    assert as_text(stats)
    assert heat_map(stats).startswith(b"\x89PNG")
