import pytest
from pydantic import ValidationError

from coldray.zeroshot.settings import ZeroShotSettings

LLM = {"engine": "openai", "model": "x"}


def make(**changes):
    return ZeroShotSettings.model_validate({"llm": LLM} | changes)


def test_an_analysis_changes_one_setting():
    plain = make(analyses={"threshold": [4.5], "ranker": ["llm"], "hops": [2]})
    assert plain.varied("threshold", 4.5).retrieval.threshold == 4.5
    assert plain.varied("hops", 2.0).retrieval.hops == 2
    assert plain.varied("ranker", "llm").ranker == "llm"
    assert plain.varied("candidates", 50).candidates == 50
    assert plain.varied("hops", 2).retrieval.threshold == plain.retrieval.threshold
    assert plain.varied("hops", 2).analyses == {}


@pytest.mark.parametrize(
    ("analyses", "why"),
    [
        ({"colour": [1]}, "is no setting of retrieval"),
        ({"hops": [0]}, "greater than or equal"),
        ({"scorer": ["magic"]}, "scorer"),
    ],
)
def test_an_analysis_that_cannot_be_run_is_refused_before_anything_starts(analyses, why):
    with pytest.raises(ValidationError, match=why):
        make(analyses=analyses)
