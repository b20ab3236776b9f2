"""LLMRank (Hou et al., 2024, ECIR) and the plain model: candidates drawn at random, ranked by a prompt.

`llm` shows the history as a set, `llmrank-sequential` in its order, `llmrank-recency` names the newest item again, and
`llmrank-in-context` turns the newest item into an example of what was recommended before.
"""

from typing import Literal

from coldray.zeroshot.catalogue import Catalogue
from coldray.zeroshot.method import Lister, Model, Person, Recommended

Style = Literal["llm", "llmrank-sequential", "llmrank-recency", "llmrank-in-context"]


class LLMRank:
    """A `Method`."""

    def __init__(self, model: Model, catalogue: Catalogue, style: Style) -> None:
        self.lister, self.style = Lister(model, catalogue, "rank_titles"), style

    async def recommend(self, person: Person, seed: int) -> Recommended:
        """Return ten of the candidates that were drawn for the person."""
        return await self.lister.recommend(person, person.candidates, seed, {"style": self.style})
