"""What the training-free methods are asked with: one model, one temperature, the same candidates and rules for all."""

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from coldray.llm.settings import EngineSettings
from coldray.retrieval.settings import RetrievalSettings
from coldray.settings import Settings, explain


class ZeroShotSettings(Settings):
    """Everything that a training-free method depends on besides the data and the user."""

    llm: EngineSettings = Field(description="which language model, run by what")
    graph: str | None = Field(default=None, description="folder or URI of the graph; null: DATASET/graph")
    temperature: float = Field(
        default=0.7,
        ge=0,
        le=2,
        description="of what is written; name the model's default, so that runs show how much it varies; 0: none do",
    )
    history: int = Field(default=20, ge=1, le=200, description="newest items of a history that are told")
    candidates: int = Field(
        default=100, ge=2, description="items that a prompt offers, drawn or retrieved by the method"
    )
    candidate_seed: int = Field(default=42, ge=0, description="of the drawn ones, the same for all methods")
    title_characters: int = Field(default=80, ge=20, description="of a title in a prompt")
    list_tokens: int = Field(default=400, ge=16, description="of an answer that lists titles, at most")
    columns: tuple[str, ...] = Field(
        default=("title", "description"),
        description="of the catalogue, from which keywords and the taxonomy come; those that are not there are left out",
    )
    keywords: int = Field(default=20, ge=1, description="KALM4Rec: of a person and of an item, at most")
    keyword_candidates: int = Field(
        default=20, ge=2, description="KALM4Rec: items that the keywords retrieve"
    )
    taxonomy_sample: int = Field(
        default=50, ge=1, description="TaxRec: titles that the taxonomy is made from"
    )
    taxonomy_features: int = Field(default=5, ge=1, le=20, description="TaxRec: features of an item")
    taxonomy_lists: int = Field(
        default=10, ge=1, le=20, description="TaxRec: kinds of item that are asked for"
    )
    retrieval: RetrievalSettings = Field(
        default=RetrievalSettings(scorer="llm", fill=False),
        description="ColdRAG: how the graph is walked; who ranks is said by `ranker`",
    )
    ranker: Literal["written", "scores", "llm", "fusion"] = Field(
        default="written",
        description="ColdRAG: written: the model writes titles, as in the paper; the others are those of retrieval",
    )
    analyses: dict[str, tuple[float | str, ...]] = Field(
        default={},
        description="ColdRAG: settings with values to try, one at a time: of retrieval, candidates or ranker",
    )
    growth: int = Field(
        default=0,
        ge=0,
        le=20,
        description="steps in which the cold items come into a copy of the graph; 0: none",
    )

    def varied(self, name: str, value: float | str) -> "ZeroShotSettings":
        """Return the settings with another value of one that `analyses` may name. Raises ValueError for one it may not."""
        own = {"candidates", "ranker", "temperature"}
        if name not in own | set(RetrievalSettings.model_fields):
            raise ValueError(
                f"analyses.{name}: is no setting of retrieval, and neither candidates nor ranker"
            )
        plain = self.model_dump(exclude={"analyses", "growth"})
        whole: Any = int(value) if isinstance(value, float) and value.is_integer() else value
        (plain if name in own else plain["retrieval"])[name] = whole
        try:
            return ZeroShotSettings.model_validate(plain)
        except ValidationError as error:
            raise ValueError(f"analyses.{name}: {value}: {explain(error)}") from error

    @model_validator(mode="after")
    def _analyses_can_be_run(self) -> "ZeroShotSettings":
        for name, values in self.analyses.items():
            for value in values:
                self.varied(name, value)
        return self
