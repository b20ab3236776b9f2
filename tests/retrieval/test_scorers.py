import asyncio
import time

import numpy as np
import pytest

from coldray.graph.store import GraphStore
from coldray.llm.engine import Answer
from coldray.retrieval.anchors import find_anchors
from coldray.retrieval.scorers import Budget, Edges, EmbeddingScorer, LineScorer, ModelScorer


@pytest.fixture
def edges(catalogue, tmp_path):
    catalogue.write(tmp_path, {"a": [f"thing {i}" for i in range(40)]})
    store = GraphStore.open(str(tmp_path))
    anchors = find_anchors(store, ["a"], 20, None)
    hop = store.hop(anchors.positions)
    return anchors, Edges(store, hop, store.relation_vectors(hop.relation) @ anchors.query)


def score(scorer, edges, budget=None):
    return asyncio.run(scorer.score(*edges, budget or Budget()))


def test_cosines_become_scores(edges):
    scores = score(EmbeddingScorer(), edges)
    assert np.allclose(scores, 10 * edges[1].relevance)
    assert np.isnan(score(EmbeddingScorer(), edges, Budget(until=time.monotonic() - 1))).all()


def test_an_edge_is_told_with_its_ends(edges):
    assert "T a - thing 0: a has thing 0" in edges[1].texts()


def test_the_expected_digit_is_the_score(edges, word_model):
    word_model.likes = lambda history, fact: "thing 7:" in fact
    scores = score(ModelScorer(word_model), edges)
    liked = [text.startswith("T a - thing 7:") for text in edges[1].texts()]
    assert np.allclose(scores, np.where(liked, 10, 10 / 9))


def test_a_prompt_that_is_too_long_scores_nothing(edges, make_word_model):
    assert (score(ModelScorer(make_word_model(longest=1)), edges) == 0).all()


@pytest.mark.parametrize("text", ["[1, 2]", "[]", "nonsense"])
def test_an_array_of_another_length_scores_nothing(edges, word_model, text):
    word_model.answer = lambda request: Answer(text, 1, 1)
    assert (score(ModelScorer(word_model, 10), edges) == 0).all()


def test_lines_are_read_by_their_numbers(edges, word_model):
    said = Answer("Scores:\n1: 7 (fits)\n2. 3\n- 3: 12\n4: high\n", 1, 1)
    assert LineScorer(word_model)._read(said, 5) == [7, 3, 10, 0, 0]


def test_a_budget_scores_the_most_relevant_first(edges, word_model):
    budget = Budget(tokens=1)
    scores = score(ModelScorer(word_model), edges, budget)
    scored = np.isfinite(scores)
    assert 0 < scored.sum() < len(scores)
    relevance = edges[1].relevance
    assert relevance[scored].min() >= relevance[~scored].max()
    assert budget.usage.calls == scored.sum()
