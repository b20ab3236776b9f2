import pytest
from pydantic import ValidationError

from coldray.graph.settings import BuildSettings


def test_a_model_is_all_that_has_to_be_said():
    made = BuildSettings.model_validate({"llm": {"engine": "vllm", "model": "m"}})
    assert made.llm.model == "m"
    assert "item" not in made.types


@pytest.mark.parametrize(
    "change", [{"merge_above": 0}, {"max_entities": 0}, {"colums": ["title"]}, {"llm": None}]
)
def test_what_makes_no_graph_is_refused(change):
    with pytest.raises(ValidationError):
        BuildSettings.model_validate({"llm": {"engine": "vllm", "model": "m"}} | change)
