import pytest
from pydantic import ValidationError

from coldray.serving.messages import asked_for
from coldray.serving.settings import Limits


def test_bodies_are_bounded_by_the_limits():
    recommend, write = asked_for(Limits(history=2, k=5, items=1))
    assert recommend.model_validate({"history": ["a", "b"], "k": 5}).k == 5
    item = {"item_id": "a", "title": "A"}
    assert write.model_validate({"items": [item]}).items[0].title == "A"
    for model, body in (
        (recommend, {"history": ["a"] * 3}),
        (recommend, {"history": [], "k": 6}),
        (write, {"items": [item] * 2}),
    ):
        with pytest.raises(ValidationError):
            model.model_validate(body)
