"""The `args` of a Serve application: what is served, to whom, within which limits."""

from typing import Annotated, Literal

from pydantic import Field

from coldray.llm.settings import OpenAI, Shared
from coldray.retrieval.settings import RetrievalSettings
from coldray.settings import Settings


class Limits(Settings):
    """What one request, one token and all of them together may ask for."""

    body_kib: int = Field(default=512, ge=1, description="of a request's body, KiB")
    history: int = Field(default=1000, ge=1, description="entries of a history")
    k: int = Field(default=100, ge=1, description="items of a recommendation")
    items: int = Field(default=100, ge=1, description="items of one request to write")
    requests_per_second: float = Field(
        default=100.0, gt=0, description="of one token, on average, at each ingress"
    )
    burst: int = Field(default=200, ge=1, description="requests of one token at once")
    queued: int = Field(
        default=64, ge=1, description="requests that may wait at an ingress; others are sent away with 429"
    )
    timeout_s: float = Field(default=30.0, gt=0, description="for a recommendation, seconds")
    write_timeout_s: float = Field(default=600.0, gt=0, description="for items to be written, seconds")


class Access(Settings):
    """Who may ask. Without tokens nobody may, unless the service is open, and then only from its own machine."""

    tokens: str | None = Field(default=None, description="file of hashed tokens (coldray serve token)")
    open: bool = Field(default=False, description="ask for no token, and answer this machine alone")


class ColdRAG(Settings):
    """Recommendations from a graph."""

    engine: Literal["coldrag"] = "coldrag"
    graph: str = Field(description="folder or URI of the graph; every node has it at the same path")
    llm: Annotated[Shared | OpenAI, Field(discriminator="engine")] | None = Field(
        default=None,
        description="the model that is asked; none: no new items, and no settings that ask one",
    )
    retrieval: RetrievalSettings = Field(
        default=RetrievalSettings(), description="where a request does not say otherwise"
    )
    refresh_s: float = Field(
        default=1.0, gt=0, description="between two looks for a new version of the graph, seconds"
    )
    cached_answers: int = Field(
        default=100_000, ge=1, description="of the model, kept in memory by a replica"
    )


class SASRec(Settings):
    """Recommendations from what a sweep trained, cold items with what was transferred to them."""

    engine: Literal["sasrec"] = "sasrec"
    runs: str = Field(default="runs", description="folder or URI of the sweep's results")
    sweep: str = Field(description="name of the sweep")
    run: str | None = Field(
        default=None,
        description="id of the MLflow run or the cell; none: the first seed of what the sweep selected",
    )
    tracking_uri: str | None = Field(
        default=None, description="of the MLflow run; none: that of the sweep's own server"
    )


class ServiceSettings(Settings):
    """All of them."""

    serves: Annotated[ColdRAG | SASRec, Field(discriminator="engine")]
    access: Access = Access()
    limits: Limits = Limits()
    replicas: int = Field(default=1, ge=1, description="retrievers, at the least")
    max_replicas: int | None = Field(
        default=None, ge=1, description="retrievers under load; none: always as many as `replicas`"
    )
