"""The order of the candidates: by the scores of their edges, by a language model, or by both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldray.llm.answers import Asks
from coldray.llm.engine import RefusedError
from coldray.llm.prompt import Prompt
from coldray.retrieval.anchors import Anchors
from coldray.retrieval.scorers import Budget

_PROMPT = Path(__file__).parent / "prompts" / "rank.j2"
_WHY_TOKENS = 40
"""of a candidate's evidence in the prompt"""
_RANK = 60
"""constant of reciprocal rank fusion (Cormack et al., 2009)"""


@dataclass(frozen=True)
class Candidate:
    """An item to rank."""

    title: str
    why: str
    """evidence, as text; "" without"""


class ModelRanker:
    """A language model chooses one candidate after another, by number.

    It can name only a candidate, and none twice: each answer is decoded among the numbers that are left. The prompts of one
    ranking begin alike, so that an engine with a prefix cache reads the candidates once.
    """

    def __init__(self, engine: Asks) -> None:
        self.engine, self.prompt = engine, Prompt.read(_PROMPT)

    async def rank(self, anchors: Anchors, candidates: list[Candidate], k: int, budget: Budget) -> list[int]:
        """Return the places of at most `k` candidates, best first; fewer where the budget is spent.

        Where the candidates are too many for the model's context only the first half of them is shown, and so on.
        """
        whys = await self.engine.cut([candidate.why for candidate in candidates], _WHY_TOKENS)
        shown = [{"title": of.title, "why": why} for of, why in zip(candidates, whys, strict=True)]
        while shown:
            try:
                return await self._choose(anchors, shown, min(k, len(shown)), budget)
            except RefusedError:
                shown = shown[: len(shown) // 2]
        return []

    async def _choose(
        self, anchors: Anchors, shown: list[dict[str, str]], k: int, budget: Budget
    ) -> list[int]:
        chosen: list[int] = []
        while len(chosen) < k and not budget.spent:
            left = [str(i + 1) for i in range(len(shown)) if i not in chosen]
            if len(left) == 1:
                chosen.append(int(left[0]) - 1)
                break
            slots: dict[str, Any] = {"candidates": shown, "history": anchors.texts}
            slots["chosen"] = ", ".join(str(i + 1) for i in chosen)
            request = self.prompt.request(slots, max_tokens=8, choices=tuple(left))
            answer, usage = await self.engine.ask(request)
            budget.usage.add(usage)
            if answer.text not in left:  # an address that does not keep to the choices
                break
            chosen.append(int(answer.text) - 1)
        return chosen


def fused(one: list[int], other: list[int]) -> list[int]:
    """Return two orders as one, by the sum of reciprocal ranks; what an order lacks counts nothing there."""
    scores: dict[int, float] = {}
    for order in (one, other):
        for rank, place in enumerate(order):
            scores[place] = scores.get(place, 0.0) + 1 / (_RANK + rank + 1)
    return sorted(scores, key=lambda place: (-scores[place], place))
