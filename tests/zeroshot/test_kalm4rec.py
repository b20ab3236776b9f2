import asyncio

import numpy as np

from coldray.zeroshot.kalm4rec import KALM4Rec, keywords


def test_keywords_are_the_heaviest_words():
    words, weights = keywords(["", "red pen red pen", "red ruler", "steel ruler", "steel pen"], 1)
    assert (np.diff(weights.indptr) <= 1).all()
    assert words[weights[3].indices].tolist() in (["steel"], ["ruler"])


def test_texts_without_a_common_word_have_none():
    words, weights = keywords(["", "one", "two"], 3)
    assert weights.nnz == 0
    assert len(words) == 1


def test_keywords_of_the_history_retrieve_alike_items(engine, make_model, catalogue, person):
    engine.answer = lambda request: "Wooden ruler 30 cm"
    method = KALM4Rec(make_model(keyword_candidates=2), catalogue)
    made = asyncio.run(method.recommend(person, 1))
    user = engine.asked[0].user
    candidates = user.split("<candidates>")[1].split("</candidates>")[0]
    assert "Red gel pen" in candidates
    assert "Wooden ruler" in candidates
    assert "keywords: " in candidates
    assert "Steel ruler" not in candidates
    assert "gel pen" in user.split("<preferences>")[1]
    assert made.items == [4]


def test_who_has_no_history_gets_some_items(engine, make_model, catalogue, person):
    from dataclasses import replace

    method = KALM4Rec(make_model(keyword_candidates=3), catalogue)
    asyncio.run(method.recommend(replace(person, history=[], seen=frozenset()), 1))
    assert len(engine.asked) == 1
