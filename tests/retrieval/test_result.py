import pytest
from pydantic import ValidationError

from coldray.retrieval.result import Edge, Node, Recommendation, Spent


def test_an_answer_is_the_same_through_json():
    node = Node(id="-1", type="item", name="‹b›", item_id="x")
    made = Recommendation(
        items=[], anchors=[], unknown=["y"], hops=[], stopped="hops", spent=Spent(), graph_version=3
    )
    assert Recommendation.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError):
        Edge(source=node, target=node, description="", score=11)
