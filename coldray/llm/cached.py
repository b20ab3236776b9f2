"""Answers kept in memory, the newest so many, for a service that is asked the same again and again."""

import asyncio
from collections import OrderedDict

from coldray.llm.answers import Usage, key_of
from coldray.llm.engine import Answer, Engine, Request


class Cached:
    """An engine that does not ask again what it was asked lately; who asks the same at the same time shares one answer."""

    def __init__(self, engine: Engine, most: int = 100_000) -> None:
        self.engine, self.most = engine, most
        self.hits = self.misses = 0
        self._kept: OrderedDict[str, asyncio.Future[Answer]] = OrderedDict()

    async def ask(self, request: Request) -> tuple[Answer, Usage]:
        """Return the answer and what it took; raises what the engine raises."""
        key = key_of(self.engine.identity, request)
        known = self._kept.get(key)
        if known is not None and not (known.done() and (known.cancelled() or known.exception())):
            self.hits += 1
            self._kept.move_to_end(key)
            # Shielded: one who gives up must not take the answer from the others.
            return await asyncio.shield(known), Usage(remembered=1)
        self.misses += 1
        asked = self._kept[key] = asyncio.ensure_future(self.engine.generate(request))
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        answer = await asyncio.shield(asked)
        return answer, Usage(1, 0, answer.prompt_tokens, answer.completion_tokens)

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return what the engine cuts."""
        return await self.engine.cut(texts, tokens)

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()
