import pytest

from coldray.errors import UserError
from coldray.llm import placement
from coldray.llm.placement import Needs
from coldray.llm.settings import VLLM, OpenAI, Shared


@pytest.fixture
def cluster(monkeypatch):
    """Return a function that makes the cluster have nodes with these resources, and vLLM installed or not."""

    def make(*nodes, installed=True):
        monkeypatch.setattr(placement, "_nodes", lambda: list(nodes))
        monkeypatch.setattr(
            placement.importlib.util, "find_spec", lambda name: object() if installed else None
        )

    return make


def test_a_cpu_node_keeps_a_core_for_others(cluster):
    cluster({"CPU": 8.0}, {"CPU": 4.0})
    assert Needs.of(VLLM(model="m")) == Needs(7, 0)
    cluster({"CPU": 1.0})
    assert Needs.of(VLLM(model="m")) == Needs(1, 0)


def test_where_there_are_gpus_they_are_taken(cluster):
    cluster({"CPU": 16.0, "GPU": 4.0}, {"CPU": 64.0})
    needs = Needs.of(VLLM(model="m", tensor_parallel=2))
    assert needs == Needs(1, 2)
    needs.check(2)
    with pytest.raises(
        UserError, match=r"3 engines need 1 CPUs and 2 GPUs of a node each, and there is room for 2"
    ):
        needs.check(3)


def test_what_fits_nowhere_is_refused_at_once(cluster):
    cluster({"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0})
    with pytest.raises(UserError, match=r"there is room for 0 \(nodes: 4 CPUs, 1 GPUs; 4 CPUs, 1 GPUs\)"):
        Needs.of(VLLM(model="m", tensor_parallel=2)).check()


def test_other_engines_need_little_and_vllm_has_to_be_there(cluster):
    cluster({"CPU": 2.0}, installed=False)
    assert Needs.of(OpenAI(model="m")) == Needs(1, 0)
    Needs.of(Shared()).check(100)
    with pytest.raises(UserError, match="vLLM is not installed; make install LOCK=llm"):
        Needs.of(VLLM(model="m"))
