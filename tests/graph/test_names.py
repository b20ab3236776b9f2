import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.graph.names import entity_id, item_entity_id, normalise, relation_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Board-Games ", "board game"),
        ("boxes", "Box"),
        ("batteries", "battery"),
        ("CLASSES", "class"),
        ("café", "cafe\u0301"),
        ("\uff30\uff25\uff2e", "pen"),
        ("straße", "STRASSE"),
        ("kids'", "kids"),
    ],
)
def test_spellings_of_one_name_are_one(one, other):
    assert normalise(one) == normalise(other)
    assert entity_id("feature", one) == entity_id("feature", other)


@pytest.mark.parametrize(
    ("one", "other"), [("glass", "gla"), ("bus", "bu"), ("gas", "ga"), ("basis", "basi"), ("C", "C++x")]
)
def test_other_names_stay_apart(one, other):
    assert normalise(one) != normalise(other)


@given(st.text())
def test_normalising_twice_changes_nothing_that_joins_names(name):
    made = normalise(name)
    assert made == " ".join(made.split())
    assert made == made.casefold()


def test_a_type_and_an_item_tell_entities_apart():
    assert entity_id("genre", "pen") != entity_id("feature", "pen")
    assert item_entity_id("1") != item_entity_id("01")
    assert -(2**63) <= entity_id("genre", "pen") < 2**63


def test_a_relation_has_no_direction():
    assert relation_id(3, -5) == relation_id(-5, 3)
    assert relation_id(3, 5) != relation_id(3, 6)
