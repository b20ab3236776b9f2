import pytest
from pydantic import ValidationError

from coldray.retrieval.settings import RetrievalSettings


def test_the_defaults_are_the_papers():
    made = RetrievalSettings()
    assert (made.hops, made.pool, made.candidates, made.history) == (5, 300, 100, 20)


@pytest.mark.parametrize(
    "change", [{"scorer": "magic"}, {"hops": 0}, {"threshold": 11}, {"treshold": 6}, {"k": 3}]
)
def test_what_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        RetrievalSettings.model_validate(change)


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({}, False),
        ({"scorer": "hybrid"}, True),
        ({"ranker": "fusion"}, True),
        ({"scorer": "llm", "traversal": False}, False),
        ({"graph": False}, True),
    ],
)
def test_it_knows_whether_a_model_is_needed(change, asks):
    assert RetrievalSettings.model_validate(change).asks_model() == asks
