"""How relevant an edge is to a history, from 0 to 10: by a language model, by embeddings, or by both."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from coldray.graph.store import GraphStore, Hop
from coldray.llm.answers import Asks, Usage
from coldray.llm.engine import Answer, RefusedError, Request
from coldray.llm.prompt import Prompt
from coldray.retrieval.anchors import Anchors

Float32 = npt.NDArray[np.float32]

_FOLDER = Path(__file__).parent / "prompts"
_SCALE = tuple("0123456789")
_WAVE = 32
"""prompts asked at a time where a budget may end between two waves"""
_LINES, _LINE_TOKENS = 10, 512
"""edges and tokens of a prompt of ColdRAG's reference"""
_LINE = re.compile(r"^\W*(\d+)\W+(\d+(?:\.\d+)?)", re.MULTILINE)


@dataclass
class Budget:
    """What a recommendation may take, and has taken."""

    tokens: int | None = None
    until: float | None = None
    """on the clock of `time.monotonic`"""
    usage: Usage = field(default_factory=Usage)

    @property
    def bounded(self) -> bool:
        """Whether there is an end to it."""
        return self.tokens is not None or self.until is not None

    @property
    def seconds(self) -> float | None:
        """Seconds left; None: no limit."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        read = self.usage.prompt_tokens + self.usage.completion_tokens
        return (self.tokens is not None and read >= self.tokens) or self.seconds == 0


@dataclass(frozen=True)
class Edges:
    """Edges to score."""

    store: GraphStore
    hop: Hop
    relevance: Float32
    """[e] cosine of the relation's description and the history"""

    def only(self, places: npt.NDArray[np.int64]) -> Hop:
        """Return some of the edges, in the order of `places`."""
        return Hop(self.hop.source[places], self.hop.target[places], self.hop.relation[places])

    def texts(self) -> list[str]:
        """Return each as text: its ends and what the relation says."""
        told = self.store.relation_texts(self.hop.relation)["description"].to_pylist()
        ends = [self.store.entities(side)["name"].to_pylist() for side in (self.hop.source, self.hop.target)]
        return [f"{one} - {other}: {text}" for one, other, text in zip(*ends, told, strict=True)]


class Scorer(Protocol):
    """Scores the edges of a hop."""

    async def score(self, anchors: Anchors, edges: Edges, budget: Budget) -> Float32:
        """Return the scores [e], 0 to 10; NaN of those that the budget did not suffice for."""
        ...


class EmbeddingScorer:
    """Ten times the cosine of the relation's description and the history; below 0 it is 0."""

    async def score(self, anchors: Anchors, edges: Edges, budget: Budget) -> Float32:
        """Return the scores [e], 0 to 10; NaN where the time is over."""
        if budget.spent:
            return np.full(len(edges.relevance), np.nan, np.float32)
        return (10 * edges.relevance).clip(0, 10)


class ModelScorer:
    """A language model's scores: the expected score of one token an edge, or guided numbers for several a prompt.

    All prompts of a history begin alike, and the first is asked before the others, so that an engine with a prefix cache reads
    the history once: what is asked together it reads anew each time.
    """

    def __init__(self, engine: Asks, batch: int = 1) -> None:
        self.engine, self.batch = engine, batch
        self.one, self.many = Prompt.read(_FOLDER / "score.j2"), Prompt.read(_FOLDER / "score_many.j2")

    async def score(self, anchors: Anchors, edges: Edges, budget: Budget) -> Float32:
        """Return the scores [e], 0 to 10; NaN of those that the budget did not suffice for or that no answer came to."""
        scores = np.full(len(edges.relevance), np.nan, np.float32)
        texts = edges.texts()
        order = np.argsort(-edges.relevance, kind="stable")
        parts = [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        wave = _WAVE if budget.bounded else len(parts)
        for start in range(0, len(parts), wave):
            if budget.spent:
                break
            now = parts[start : start + wave]
            try:
                async with asyncio.timeout(budget.seconds):
                    if start == 0:
                        await self._ask(anchors, now.pop(0), texts, scores, budget)
                    await asyncio.gather(*(self._ask(anchors, part, texts, scores, budget) for part in now))
            except TimeoutError:
                break
        return scores

    async def _ask(
        self, anchors: Anchors, part: npt.NDArray[np.int64], texts: list[str], scores: Float32, budget: Budget
    ) -> None:
        try:
            answer, usage = await self.engine.ask(self._request(anchors.texts, [texts[i] for i in part]))
        except RefusedError:  # too long for the model: as irrelevant as what it cannot read
            scores[part] = 0
            return
        budget.usage.add(usage)
        scores[part] = self._read(answer, len(part))

    def _request(self, history: Sequence[str], edges: list[str]) -> Request:
        if self.batch == 1:
            return self.one.request({"history": history, "edge": edges[0]}, max_tokens=1, scale=_SCALE)
        number = {"type": "integer", "minimum": 0, "maximum": 10}
        schema = {"type": "array", "items": number, "minItems": len(edges), "maxItems": len(edges)}
        slots = {"history": history, "edges": edges}
        return self.many.request(slots, max_tokens=8 + 4 * len(edges), schema=json.dumps(schema))

    def _read(self, answer: Answer, count: int) -> list[float]:
        if self.batch == 1:
            return [10 / (len(_SCALE) - 1) * (answer.score or 0.0)]
        try:
            found = [float(number) for number in json.loads(answer.text)]
        except ValueError:
            found = []
        return found if len(found) == count else [0.0] * count


class LineScorer(ModelScorer):
    """As ColdRAG's reference does it: ten edges a prompt, scores written as lines of text. Lines that do not parse are lost."""

    def __init__(self, engine: Asks) -> None:
        super().__init__(engine, _LINES)
        self.lines = Prompt.read(_FOLDER / "score_lines.j2")

    def _request(self, history: Sequence[str], edges: list[str]) -> Request:
        return self.lines.request({"history": history, "edges": edges}, max_tokens=_LINE_TOKENS)

    def _read(self, answer: Answer, count: int) -> list[float]:
        found = {int(number): float(score) for number, score in _LINE.findall(answer.text)}
        return [min(10.0, found.get(i + 1, 0.0)) for i in range(count)]
