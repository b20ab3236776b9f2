"""What the HTTP API takes and gives, besides `coldray.retrieval.result`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from coldray import __version__
from coldray.retrieval.settings import RankerName
from coldray.serving.settings import Limits

Text = Annotated[str, Field(max_length=2000)]
ItemId = Annotated[str, Field(min_length=1, max_length=200)]


def _whole(value: Any) -> Any:
    """Return a whole number as an int: to JSON 7.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)


class Body(BaseModel):
    """The body of a request; a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Changes(Body):
    """How the graph is walked, where it is to differ from the service's settings."""

    scorer: Literal["llm", "embedding", "hybrid"] | None = Field(default=None, description="of edges")
    ranker: RankerName | None = Field(default=None, description="of candidates")
    threshold: float | None = Field(default=None, ge=0, le=10, description="score that lets an edge pass")
    hops: Annotated[int, Field(ge=1, le=10), _WHOLE] | None = Field(default=None, description="at most")
    evidence: Annotated[int, Field(ge=0, le=10), _WHOLE] | None = Field(
        default=None, description="paths told of an item, at most"
    )
    fill: bool | None = Field(
        default=None, description="whether the nearest items follow where the walk finds too few"
    )
    budget_ms: Annotated[int, Field(ge=1, le=600_000), _WHOLE] | None = Field(
        default=None, description="for the walk, milliseconds"
    )


class NewItem(BaseModel):
    """An item to write: its id, and whatever fields of text there are."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={"additionalProperties": {"type": "string", "maxLength": 100_000}},
    )
    __pydantic_extra__: dict[str, Annotated[str, Field(max_length=100_000)]]
    item_id: ItemId = Field(examples=["B01"])
    title: Text = Field(examples=["Hiking backpack, 40 litres"])


class Item(BaseModel):
    """An item."""

    item_id: str
    title: str


class ItemDetail(Item):
    """An item and what the model wrote of it."""

    profile: str


class Items(BaseModel):
    """Items that were found."""

    items: list[Item]


class WrittenItem(BaseModel):
    """What became of an item."""

    item_id: str
    status: Literal["added", "changed", "unchanged", "failed"]
    error: str = ""


class Written(BaseModel):
    """What became of items."""

    graph_version: int = Field(description="in which they can be recommended")
    items: list[WrittenItem]


class Removed(BaseModel):
    """A removal."""

    graph_version: int = Field(description="from which on the item is gone")


class Status(BaseModel):
    """How the service stands."""

    engine: Literal["coldrag", "sasrec"]
    graph_version: int
    items: int
    entities: int
    relations: int
    store: Literal["reachable", "unreachable"] = Field(
        description="unreachable: the version in memory is served"
    )
    refused: str = Field(default="", description="why a newer version of the graph was not taken up")
    llm: str = Field(description="name of the model, or none")
    scorers: list[str]
    rankers: list[str]
    default: dict[str, str]
    version: str = __version__


class Neighbour(BaseModel):
    """An entity around an item."""

    id: str
    type: str
    name: str
    item_id: str | None
    description: str
    hops: int


class Link(BaseModel):
    """A relation between two of these, named by their places in the list."""

    source: int
    target: int
    type: str
    description: str


class Neighbourhood(BaseModel):
    """What is around an item, to two hops."""

    nodes: list[Neighbour]
    edges: list[Link]
    left_out: int = Field(description="entities that were too many")


def asked_for(limits: Limits) -> tuple[type[BaseModel], type[BaseModel]]:
    """Return the bodies of a request for recommendations and of items to write, within limits."""
    history = Annotated[
        list[Text],
        Field(
            max_length=limits.history,
            description="ids of items, titles, or any texts, oldest first",
            examples=[["1"]],
        ),
    ]
    k = Annotated[int, Field(ge=1, le=limits.k, description="items wanted, at most"), _WHOLE]
    recommend = create_model(
        "RecommendRequest", __base__=Body, history=(history, ...), k=(k, 10), settings=(Changes, Changes())
    )
    items = Annotated[list[NewItem], Field(min_length=1, max_length=limits.items)]
    write = create_model("WriteRequest", __base__=Body, items=(items, ...))
    return recommend, write
