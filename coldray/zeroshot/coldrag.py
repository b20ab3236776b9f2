"""ColdRAG (Yang et al.): the graph is walked to candidates with evidence, and the model writes the list; and its ablations.

`coldrag` writes titles as the others do, and may make some up; `coldrag-constrained` chooses candidates by number and cannot.
`coldrag-nearest` keeps the graph but takes the items nearest to the history in place of the walk (w/o R there); w/o G and R is
the plain model, `llm`.
"""

from typing import Literal

from coldray.graph.store import GraphStore
from coldray.llm.answers import Usage
from coldray.llm.engine import Answer, Request
from coldray.retrieval.recommend import Recommender
from coldray.retrieval.result import RecommendedItem
from coldray.zeroshot.catalogue import Catalogue, cut
from coldray.zeroshot.method import TOP, Lister, Model, Person, Recommended

Kind = Literal["coldrag", "coldrag-constrained", "coldrag-nearest"]
_EVIDENCE = 120
"""characters of a candidate's evidence in the prompt"""


class ColdRAG:
    """A `Method`."""

    def __init__(self, model: Model, catalogue: Catalogue, store: GraphStore, kind: Kind) -> None:
        """Take the graph; items of it that are not in the catalogue are never recommended."""
        self.model, self.catalogue, self.store, self.kind = model, catalogue, store, kind
        self.index = {item: place for place, item in enumerate(catalogue.item_ids) if place}
        self.lister = Lister(model, catalogue, "rank_with_evidence")
        given = model.settings
        self.listed = kind != "coldrag-constrained" and given.ranker == "written"
        ranker = "scores" if self.listed else "llm" if kind == "coldrag-constrained" else given.ranker
        changed = {"candidates": given.candidates, "traversal": kind != "coldrag-nearest", "evidence": 1}
        self.retrieval = given.retrieval.model_copy(update=changed | {"ranker": ranker})

    async def recommend(self, person: Person, seed: int) -> Recommended:
        """Return ten items that the graph leads to from the person's history."""
        history = [self.catalogue.item_ids[item] for item in person.history]
        counted = _Counted(self.model)
        recommender = Recommender(self.store, engine=counted)
        most = self.model.settings.candidates if self.listed else TOP
        found = await recommender.recommend(history, most, self.retrieval)
        kept = {
            self.index[item.item_id]: item
            for item in found.items
            if item.item_id in self.index and self.index[item.item_id] not in person.seen
        }
        told = {item: evidence(kept[item]) for item in kept}
        if self.listed:
            notes = [cut(told[item], _EVIDENCE) for item in kept]
            made = await self.lister.recommend(person, list(kept), seed, {}, notes)
        else:
            made = Recommended(list(kept)[:TOP])
        made.usage.add(counted.usage)
        made.evidence = [told.get(item, "") for item in made.items]
        return made


class _Counted:
    """The model as retrieval asks it, with a count for one person."""

    def __init__(self, model: Model) -> None:
        self.model, self.usage = model, Usage()

    async def ask(self, request: Request) -> tuple[Answer, Usage]:
        """Return the answer and what it took."""
        spent = Usage()
        answer = await self.model.ask(request, spent)
        self.usage.add(spent)
        return answer, spent

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return what the engine cuts."""
        return await self.model.engine.cut(texts, tokens)


def evidence(item: RecommendedItem) -> str:
    """Return the way to an item as text: what stands on its edges."""
    return "; ".join(edge.description for path in item.paths[:1] for edge in path)
