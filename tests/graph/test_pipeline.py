"""The wide work on a real Ray: a real vLLM with SmolLM2, actors that are killed, and embeddings."""

import os
import signal

import numpy as np
import psutil
import pyarrow as pa
import pytest

from coldray import storage
from coldray.encode.sentence_model import find_model
from coldray.errors import UserError
from coldray.graph import pipeline
from coldray.graph.build import build_graph
from coldray.graph.pipeline import Embedder
from coldray.graph.settings import BuildSettings
from coldray.graph.store import GraphStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.mark.slow
def test_a_graph_by_a_real_vllm_whose_actor_is_killed_half_way(smollm, tmp_path):
    titles = ["Toy Story", "GoldenEye", "Twelve Monkeys", "Babe"]
    items = str(tmp_path / "items.parquet")
    table = {"item_id": [str(i) for i in range(4)], "title": titles, "genres": [["Comedy"], ["Action"]] * 2}
    storage.write_table(items, pa.table(table))
    llm = {"engine": "vllm", "model": smollm, "max_length": 1024, "concurrency": 16, "cache_gib": 0.5}
    limits = {"profile_tokens": 30, "extraction_tokens": 250, "max_entities": 1, "max_relations": 1}
    settings = BuildSettings.model_validate({"llm": llm, "entities": {"genres": "genre"}} | limits)
    killed = []

    def kill_once(done, total, usage):
        if done == 1 and not killed:
            (actor,) = actors()
            killed.append(actor.pid)
            os.kill(actor.pid, signal.SIGKILL)

    built = build_graph(items, str(tmp_path / "graph"), settings, progress=kill_once)
    assert killed
    assert (built.version, built.described) == (1, 4)
    assert built.usage.calls + built.usage.remembered >= 8
    store = GraphStore.open(str(tmp_path / "graph"))
    assert store.items([str(i) for i in range(4)]).min() >= 0
    assert sum(built.failed.values()) < 4
    kinds = store.entities(range(len(store.ids)))["type"].to_pylist()
    assert kinds.count("item") == 4
    assert len(kinds) > 4 + 2  # more than the items and their genres
    again = build_graph(items, str(tmp_path / "graph"), settings)
    assert (again.described, again.usage.calls, again.unchanged) == (0, 0, 4)
    assert psutil.wait_procs(actors(), timeout=60)[1] == []  # Ray ends them in its own time


def actors():
    """Return the processes of Ray that hold an engine."""
    ours = psutil.Process().children(recursive=True)
    named = [
        process
        for process in ours
        if process.status() != psutil.STATUS_ZOMBIE and "MapBatches(_Worker)" in " ".join(process.cmdline())
    ]
    return [process for process in named if process.ppid() not in {other.pid for other in named}]


def test_what_has_no_room_is_refused_before_it_waits(tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed; make install LOCK=llm")
    items = str(tmp_path / "items.parquet")
    storage.write_table(items, pa.table({"item_id": ["1"], "title": ["A"]}))
    settings = BuildSettings.model_validate({"llm": {"engine": "vllm", "model": "a/hub-name"}, "engines": 50})
    with pytest.raises(UserError, match="50 engines need 3 CPUs of a node each, and there is room for 1"):
        build_graph(items, str(tmp_path / "graph"), settings)


def test_many_texts_are_embedded_as_few_are(monkeypatch):
    embed = Embedder(find_model(None), packaged=True)
    texts = [f"a thing of {i} parts" for i in range(9)]
    here = embed(texts)
    assert np.allclose(np.linalg.norm(here, axis=1), 1, atol=1e-5)
    monkeypatch.setattr(pipeline, "_FEW", 4)
    assert np.allclose(embed(texts), here, atol=1e-5)
