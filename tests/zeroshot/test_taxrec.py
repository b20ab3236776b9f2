import asyncio
import json

import pytest

from coldray.llm.engine import Answer
from coldray.zeroshot.taxrec import TaxRec, _list, _taxonomy

TAXONOMY = [
    {"name": "Kind", "values": ["Pen", "Ruler", "Paper"]},
    {"name": "Colour", "values": ["Red", "Blue"]},
]


def answers(request):
    if request.prompt.startswith("taxonomy"):
        return json.dumps(TAXONOMY)
    if request.prompt.startswith("categorise"):
        title = request.user.split("<item>")[1]
        kind = next((k for k in ("Pen", "Ruler") if k.lower() in title.lower()), "Unknown")
        colour = next((k for k in ("Red", "Blue") if k.lower() in title.lower()), "Unknown")
        return json.dumps({"Kind": kind, "Colour": colour})
    return json.dumps([{"Kind": "Ruler", "Colour": "Red"}] * 2)


def made(make_model, catalogue, **changes):
    method = TaxRec(make_model(taxonomy_features=2, taxonomy_lists=2, **changes), catalogue)
    usage = asyncio.run(method.prepare())
    return method, usage


def test_the_catalogue_is_sorted_once_and_kinds_are_matched_to_candidates(
    engine, make_model, catalogue, person
):
    engine.answer = answers
    method, usage = made(make_model, catalogue)
    assert usage.calls == 1 + len(catalogue)
    assert method.taxonomy == {
        "Kind": ["Pen", "Ruler", "Paper", "Unknown"],
        "Colour": ["Red", "Blue", "Unknown"],
    }
    assert method.features[2] == {"Kind": "Pen", "Colour": "Red"}
    assert method.features[5] == {}
    found = asyncio.run(method.recommend(person, 3))
    # The red pen and the wooden ruler share one feature with each kind; the others none, in the order drawn.
    assert found.items == [2, 4, 5, 6, 7]
    assert found.written == []
    assert found.unknown == 0
    assert engine.asked[-1].seed == 3
    assert "Blue gel pen" in engine.asked[-1].user
    assert "Kind: Pen, Colour: Blue" in engine.asked[-1].user


def test_answers_are_decoded_by_schemas_with_the_taxonomy(engine, make_model, catalogue, person):
    engine.answer = answers
    method, _ = made(make_model, catalogue)
    asyncio.run(method.recommend(person, 0))
    kinds = json.loads(engine.asked[-1].schema)
    assert kinds["minItems"] == kinds["maxItems"] == 2
    assert kinds["items"]["properties"]["Kind"]["enum"] == ["Pen", "Ruler", "Paper", "Unknown"]
    assert json.loads(engine.asked[0].schema)["minItems"] == 2


@pytest.mark.parametrize("text", ["", "[", '[{"name": "Kind", "values": ["Pen"', "[]"])
def test_a_taxonomy_that_was_cut_off_early_is_none(text):
    assert _taxonomy(Answer(text, 0, 0, False)) == {"Kind": ["Unknown"]}


def test_what_came_before_the_end_of_a_cut_answer_counts():
    whole = json.dumps(TAXONOMY)
    assert list(_taxonomy(Answer(whole[: whole.index("Colour")], 0, 0, False))) == ["Kind"]
    kinds = json.dumps([{"Kind": "Pen"}, {"Kind": "Ruler"}])
    assert _list(Answer(kinds[:-5], 0, 0, False)) == [{"Kind": "Pen"}]
    assert _list(Answer("", 0, 0, False)) == []


def test_a_history_that_is_too_long_is_cut_to_its_newest_half(engine, make_model, catalogue, person):
    engine.answer = answers
    method, _ = made(make_model, catalogue)
    asyncio.run(method.recommend(person, 0))
    engine.longest = len(engine.asked[-1].user) - 1
    asyncio.run(method.recommend(person, 0))
    assert "Blue gel pen" not in engine.asked[-1].user
    assert "Steel ruler" in engine.asked[-1].user
    engine.longest = 5
    assert asyncio.run(method.recommend(person, 0)).items == person.candidates
