import asyncio

from coldray.llm.answers import Usage
from coldray.llm.engine import Answer
from coldray.retrieval.anchors import Anchors
from coldray.retrieval.rankers import Candidate, ModelRanker, fused
from coldray.retrieval.scorers import Budget

CANDIDATES = [Candidate(f"T {i}", "why" if i else "") for i in range(4)]


def rank(model, k, budget=None, candidates=CANDIDATES):
    anchors = Anchors(["a"], None, None, ["T a"], None, [])
    return asyncio.run(ModelRanker(model).rank(anchors, candidates, k, budget or Budget()))


def test_it_chooses_until_it_has_enough(word_model):
    assert rank(word_model, 2) == [3, 2]
    assert [len(request.choices) for request in word_model.asked] == [4, 3]
    assert "Already chosen: 4." in word_model.asked[1].user


def test_the_last_one_left_is_not_asked_for(word_model):
    assert sorted(rank(word_model, 10)) == [0, 1, 2, 3]
    assert len(word_model.asked) == 3


def test_all_prompts_begin_alike(word_model):
    rank(word_model, 3)
    beginnings = {request.user.split("Already")[0].split("Which")[0] for request in word_model.asked}
    assert len(beginnings) == 1
    assert "   why" in word_model.asked[0].user


def test_a_spent_budget_ends_the_choice(word_model):
    assert rank(word_model, 3, Budget(tokens=1)) == [3]


def test_an_address_that_ignores_the_choices_chooses_nothing_else(word_model):
    async def nonsense(request):
        return Answer("a fine product", 1, 3), Usage(1, 0, 1, 3)

    word_model.ask = nonsense
    assert rank(word_model, 3) == []


def test_fusion_goes_by_the_sum_of_reciprocal_ranks():
    assert fused([0, 1, 2], [0, 1, 2]) == [0, 1, 2]
    assert fused([2, 1, 0], [0, 1, 2])[:2] in ([0, 2], [2, 0])
    assert fused([], [3, 1]) == [3, 1]
    assert fused([5], [1, 5]) == [5, 1]
