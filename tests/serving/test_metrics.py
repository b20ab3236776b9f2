"""What is counted of a recommendation; that it reaches Prometheus is tested on a running service (test_app)."""

import pytest

from coldray.retrieval.result import HopTrace, Recommendation, Spent
from coldray.serving.metrics import Metrics

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def test_each_part_of_an_answer_is_counted(monkeypatch):
    made, told = Metrics(), []
    for name in ("_hop", "_pool", "_fallbacks", "_tokens", "_hits", "_calls"):
        for act in ("observe", "inc"):
            if hasattr(getattr(made, name), act):
                monkeypatch.setattr(getattr(made, name), act, lambda *a, name=name: told.append((name, *a)))
    numbers = {"frontier": 1, "edges": 2, "scored": 2, "passed": 2, "threshold": 0}
    hops = [HopTrace(hop=1, pool=0, seconds=0.5, **numbers), HopTrace(hop=2, pool=7, seconds=0.25, **numbers)]
    spent = Spent(calls=3, remembered=2, prompt_tokens=40, completion_tokens=4)
    made.recommended(
        Recommendation(
            items=[],
            anchors=[],
            unknown=[],
            hops=hops,
            stopped="hops",
            fallback="f",
            spent=spent,
            graph_version=1,
        )
    )
    assert told == [
        ("_hop", 500, {"hop": "1"}),
        ("_hop", 250, {"hop": "2"}),
        ("_pool", 7),
        ("_fallbacks",),
        ("_hits", 2),
        ("_calls", 3),
        ("_tokens", 40, {"kind": "read"}),
        ("_tokens", 4, {"kind": "written"}),
    ]
