import asyncio

import pytest

from coldray.llm.cached import Cached
from coldray.llm.engine import Answer, RefusedError, Request

ONE, OTHER = Request("p@1", "s", "one"), Request("p@1", "s", "other")


class Slow:
    identity = "slow"

    def __init__(self):
        self.asked = []

    async def generate(self, request):
        self.asked.append(request.user)
        await asyncio.sleep(0.05)
        if request.user == "bad":
            raise RefusedError("no")
        return Answer(request.user, 3, 2)

    async def cut(self, texts, tokens):
        return texts

    async def close(self):
        self.asked = None


def test_the_same_is_asked_once_also_at_the_same_time():
    async def run():
        cached = Cached(Slow())
        found = await asyncio.gather(*(cached.ask(ONE) for _ in range(3)), cached.ask(OTHER))
        again = await cached.ask(ONE)
        return cached, found, again

    cached, found, again = asyncio.run(run())
    assert cached.engine.asked == ["one", "other"]
    assert [usage.calls for _, usage in found] == [1, 0, 0, 1]
    assert again[0].text == "one"
    assert again[1].remembered == 1
    assert (cached.hits, cached.misses) == (3, 2)


def test_the_oldest_is_forgotten():
    async def run():
        cached = Cached(Slow(), most=1)
        for request in (ONE, OTHER, ONE):
            await cached.ask(request)
        return cached.engine.asked

    assert asyncio.run(run()) == ["one", "other", "one"]


def test_a_failure_is_not_kept():
    async def run():
        cached = Cached(Slow())
        for _ in range(2):
            with pytest.raises(RefusedError):
                await cached.ask(Request("p@1", "s", "bad"))
        return cached.engine.asked

    assert asyncio.run(run()) == ["bad", "bad"]


def test_who_gives_up_takes_the_answer_from_nobody():
    async def run():
        cached = Cached(Slow())
        first = asyncio.ensure_future(cached.ask(ONE))
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(cached.ask(ONE))
        await asyncio.sleep(0.01)
        first.cancel()
        return (await second)[0].text, cached.engine.asked

    assert asyncio.run(run()) == ("one", ["one"])
