import asyncio

import pytest

from coldray.zeroshot.llmrank import LLMRank


def ask(engine, make_model, catalogue, person, style):
    made = asyncio.run(LLMRank(make_model(), catalogue, style).recommend(person, 1))
    return engine.asked[-1].user, made


@pytest.mark.parametrize("style", ["llm", "llmrank-sequential", "llmrank-recency", "llmrank-in-context"])
def test_all_styles_show_the_same_candidates_first(engine, make_model, catalogue, person, style):
    user, _ = ask(engine, make_model, catalogue, person, style)
    plain, _ = ask(engine, make_model, catalogue, person, "llm")
    assert user.split("</candidates>")[0] == plain.split("</candidates>")[0]
    assert "Steel ruler" not in user.split("</candidates>")[0]


def test_the_styles_differ_in_what_they_say_of_the_order(engine, make_model, catalogue, person):
    said = {
        style: ask(engine, make_model, catalogue, person, style)[0]
        for style in ("llm", "llmrank-sequential", "llmrank-recency", "llmrank-in-context")
    }
    assert "in this order" not in said["llm"]
    assert "in this order" in said["llmrank-sequential"]
    assert "<newest>\nSteel ruler 30 cm\n</newest>" in said["llmrank-recency"]
    assert "<recommended>\nSteel ruler 30 cm\n</recommended>" in said["llmrank-in-context"]
    assert "Steel ruler" not in said["llmrank-in-context"].split("</history>")[0]


def test_a_history_of_one_item_can_be_no_example(engine, make_model, catalogue, person):
    from dataclasses import replace

    alone = replace(person, history=[3])
    user, _ = ask(engine, make_model, catalogue, alone, "llmrank-in-context")
    assert "<recommended>" not in user
    assert "Steel ruler" in user


def test_what_the_model_writes_is_what_comes_back(engine, make_model, catalogue, person):
    engine.answer = lambda request: "Notebook A5 lined\nWooden ruler 30 cm"
    _, made = ask(engine, make_model, catalogue, person, "llm")
    assert made.items == [7, 4]
    assert made.unknown == 0
