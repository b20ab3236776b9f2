"""What a recommendation says: items, why they are there, and what it took. Plain data, the same in Python, JSON and HTTP."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Result(BaseModel):
    """A part of what comes back."""

    model_config = ConfigDict(frozen=True)


class Node(Result):
    """An entity of the graph."""

    id: str = Field(description="of the entity, the same in all versions of the graph", examples=["-811"])
    type: str = Field(examples=["item"])
    name: str = Field(description="for an item its title", examples=["Hiking backpack"])
    item_id: str | None = Field(default=None, description="where the entity is an item", examples=["B01"])


class Edge(Result):
    """A relation as it was walked."""

    source: Node
    target: Node
    description: str = Field(examples=["The backpack suits weekend hikers."])
    score: float = Field(description="relevance to the history, 0 to 10", ge=0, le=10, examples=[7.5])


class Anchor(Result):
    """Where a part of the history stands in the graph."""

    given: str = Field(description="item id or text, as it was asked")
    node: Node
    similarity: float = Field(
        description="1 for an id or title of the catalogue, else the cosine of the texts"
    )


class HopTrace(Result):
    """What one hop did."""

    hop: int = Field(ge=1)
    frontier: int = Field(description="entities that it started from")
    edges: int = Field(description="edges of these not seen before")
    scored: int = Field(
        description="edges of these that were scored: the most relevant, where there were too many"
    )
    passed: int = Field(description="edges that reached the threshold")
    threshold: float = Field(description="score that an edge had to reach")
    pool: int = Field(description="items found so far")
    seconds: float
    walked: list[Edge] = Field(
        default=[], description="the best edges that passed, where they were asked for"
    )


class RecommendedItem(Result):
    """A recommended item and its evidence."""

    item_id: str = Field(examples=["B02"])
    title: str
    score: float = Field(description="what the ranking goes by; comparable within one answer only")
    paths: list[list[Edge]] = Field(
        default=[],
        description="ways from the history to the item, short ones first; each edge starts where the last ended",
    )


class Spent(Result):
    """What the language model did."""

    calls: int = 0
    remembered: int = Field(default=0, description="answers that were known already")
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Recommendation(Result):
    """An answer."""

    items: list[RecommendedItem]
    anchors: list[Anchor]
    unknown: list[str] = Field(
        description="of the history, that the graph knows nothing like; the rest was used"
    )
    hops: list[HopTrace]
    stopped: Literal["pool", "hops", "frontier", "budget", "no walk"] = Field(
        description="why no further hop was made; `budget`: this is the best found until it was spent"
    )
    fallback: str = Field(default="", description="says so where the items are not drawn from the history")
    spent: Spent
    graph_version: int
