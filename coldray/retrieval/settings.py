"""How the graph is walked and what it finds is ranked. Defaults are the reference values of ColdRAG (section 4, appendix)."""

from typing import Literal

from pydantic import Field

from coldray.settings import Settings

ScorerName = Literal["llm", "embedding", "hybrid", "lines"]
RankerName = Literal["llm", "scores", "fusion"]


class RetrievalSettings(Settings):
    """Everything a recommendation depends on besides the graph, the model and the history."""

    scorer: ScorerName = Field(
        default="embedding",
        description=(
            "of edges; llm: the language model scores them all; embedding: cosine with the history; hybrid: the model scores "
            "those that the embedding chooses; lines: the model writes its scores as text, ten edges a prompt, for comparison"
        ),
    )
    ranker: RankerName = Field(
        default="scores",
        description=(
            "of candidates; llm: the model chooses among them; scores: the scores of their edges; fusion: both orders together"
        ),
    )
    history: int = Field(default=20, ge=1, le=200, description="newest items of a history that are used")
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="score that lets an edge pass; none: 6 for a model's scores, 0 for cosines",
    )
    quantile: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="of a hop's scores, that lets an edge pass; goes before the threshold",
    )
    hops: int = Field(default=5, ge=1, le=20, description="at most")
    pool: int = Field(default=300, ge=1, le=10_000, description="items found, that end the walk")
    batch: int = Field(
        default=1,
        ge=1,
        le=50,
        description="edges a prompt of `llm` and `hybrid`; of one the answer is a single token",
    )
    edges: int = Field(
        default=1000, ge=1, le=100_000, description="scored a hop, at most: those nearest to the history"
    )
    model_edges: int = Field(
        default=60, ge=1, le=10_000, description="of a hop, that `hybrid` shows the model"
    )
    candidates: int = Field(default=100, ge=2, le=500, description="that a ranker is given")
    evidence: int = Field(default=3, ge=0, le=20, description="paths told of an item, at most")
    fill: bool = Field(
        default=True,
        description="where the walk finds fewer items than were asked for, the nearest to the history follow",
    )
    graph: bool = Field(
        default=True, description="off: the model ranks candidates drawn at random, without evidence"
    )
    traversal: bool = Field(
        default=True,
        description="off: the candidates are the items nearest to the history, found without a walk",
    )
    seed: int = Field(default=0, ge=0, description="of what is drawn at random")
    budget_tokens: int | None = Field(
        default=None,
        ge=1,
        description="read and written by the model, after which the best so far is the answer",
    )
    budget_ms: int | None = Field(
        default=None,
        ge=1,
        description="for the walk, milliseconds, after which the best so far is the answer",
    )

    def asks_model(self) -> bool:
        """Return whether a language model is needed."""
        walks = self.graph and self.traversal
        return self.ranker != "scores" or (walks and self.scorer != "embedding") or not self.graph
