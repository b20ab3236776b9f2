"""One vLLM on Ray Serve, asked by several."""

import asyncio
import contextlib
import time

import psutil
import pytest

from coldray.errors import ServiceError
from coldray.llm.engine import RefusedError, Request
from coldray.llm.models import identity
from coldray.llm.settings import VLLM, Shared, make_engine
from coldray.llm.shared_engine import deploy


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_who_asks_gets_the_deployments_answers(smollm):
    from ray import serve

    with pytest.raises(ServiceError, match="app no-such: does not run; start it with: coldray llm serve"):
        make_engine(Shared(app="no-such"))
    try:
        deploy(VLLM(model=smollm, max_length=512, cache_gib=0.5), "test-llm")
        asyncio.run(asks(smollm))
        asyncio.run(outlives_its_model())
    finally:
        serve.shutdown()


async def asks(smollm):
    engines = [make_engine(Shared(app="test-llm")) for _ in range(2)]
    assert engines[0].identity == identity(smollm)
    request = Request("t@1", "Be brief.", "Is a pen for writing?", max_tokens=8, choices=("yes", "no"))
    answers = await asyncio.gather(*(engine.generate(request) for engine in engines))
    assert answers[0] == answers[1]
    assert answers[0].text in ("yes", "no")
    with pytest.raises(RefusedError, match="more than max_length 512"):
        await engines[0].generate(Request("t@1", "", "word " * 2000))
    assert await engines[0].cut(["one two three four"], 2) == ["one two"]
    await engines[0].close()


def named(process, name):
    """Return the descendants of a process that have a name in their command lines."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if name in " ".join(child.cmdline()):
                found.append(child)
    return found


async def outlives_its_model():
    """Kill vLLM's own process: that is said, and the same engine answers once Serve has made another replica."""
    engine = make_engine(Shared(app="test-llm"))
    request = Request("t@1", "Be brief.", "Is tea a drink?", max_tokens=8, choices=("yes", "no"))
    (replica,) = named(psutil.Process(), "ray::ServeReplica:test-llm:llm")
    for process in named(replica, "VLLM::EngineCore"):
        process.kill()
    deadline, told, others = time.monotonic() + 240, set(), []
    while True:
        try:
            assert (await engine.generate(request)).text in ("yes", "no")
            break
        except ServiceError as error:
            told.add(str(error))
            if not others:  # one that comes while there is no model waits for it
                others.append(asyncio.create_task(asyncio.to_thread(make_engine, Shared(app="test-llm"))))
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)
    assert [made.identity for made in await asyncio.gather(*others)] == [engine.identity] * len(others)
    assert told
    assert all("llm app test-llm: its model died" in text or "stopped" in text for text in told)
