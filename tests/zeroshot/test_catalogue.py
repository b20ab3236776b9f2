import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.errors import UserError
from coldray.zeroshot.catalogue import Catalogue, cut, drawn, key_of


@pytest.mark.parametrize(
    ("written", "item"),
    [
        ("Steel ruler 30 cm", 3),
        ("3. steel RULER, 30 cm!", 3),
        ("- Steel ruler 30 cm", 3),
        ("Steel ruler 30 cm and a bag to keep it in", 3),
        ("Blue gel pen", 1),
        ("Laser printer toner", 5),
        ("Laser printer", 0),
        ("Steel ruler", 0),
        ("Steel ruler 30", 3),
        ("Green gel pen, fine point, 12 pack", 0),
        ("", 0),
        ("!!!", 0),
        ("Here are my suggestions", 0),
    ],
)
def test_one_rule_says_which_item_a_written_title_means(catalogue, written, item):
    assert catalogue.match(written, []) == item


def test_of_items_with_one_title_the_offered_one_is_meant(catalogue):
    assert catalogue.match("Notebook A5 lined", [8, 2]) == 8
    assert catalogue.match("Notebook A5 lined", [2]) == 7


def test_a_beginning_that_several_titles_have_means_the_one_that_was_offered():
    ids = pa.array(["a", "b"])
    table = pa.table({"item_id": ids, "title": ["HP ink cartridge 63 black", "HP ink cartridge 63 colour"]})
    pair = Catalogue.of(table, ids, ())
    assert pair.match("HP ink cartridge 63", []) == 0
    assert pair.match("HP ink cartridge 63", [2]) == 2
    assert pair.match("HP ink cartridge 63", [1, 2]) == 0


@given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.text(max_size=40))
def test_every_title_means_an_item_of_that_title_whatever_it_is(titles, other):
    ids = pa.array([f"i{n}" for n in range(len(titles))])
    made = Catalogue.of(pa.table({"item_id": ids, "title": titles}), ids, ())
    for place, title in enumerate(made.titles[1:], start=1):
        found = made.match(title, [place])
        assert found == (place if key_of(title) else 0)
    assert 0 <= made.match(other, []) <= len(titles)


def test_a_title_cut_for_the_prompt_still_means_its_item(catalogue):
    for item, (shown,) in ((i, catalogue.shown([i], 24)) for i in (1, 2, 5, 6)):
        assert len(shown) <= 24
        assert catalogue.match(shown, [item]) == item
    assert cut("one two three", 9) == "one two"
    assert cut("unbreakable", 5) == "unbre"


def test_catalogues_that_do_not_do_are_refused():
    ids = pa.array(["a", "b"])
    with pytest.raises(UserError, match="no column title"):
        Catalogue.of(pa.table({"item_id": ids}), ids, ())
    with pytest.raises(UserError, match="has no item b"):
        Catalogue.of(pa.table({"item_id": ["a"], "title": ["A"]}), ids, ())


def test_candidates_are_drawn_once_and_without_the_history():
    history = np.array([2, 5], np.int32)
    first = drawn(20, history, 8, 42, 3)
    assert first == drawn(20, history, 8, 42, 3)
    assert len(set(first)) == 8
    assert not {2, 5, 0} & set(first)
    assert first != drawn(20, history, 8, 42, 4)
    assert first != drawn(20, history, 8, 43, 3)
    assert len(drawn(5, history, 100, 42, 0)) == 3
