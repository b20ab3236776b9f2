"""The settings of a graph's build."""

from pydantic import Field

from coldray.graph.schema import TYPES
from coldray.llm.settings import EngineSettings
from coldray.settings import Settings


class BuildSettings(Settings):
    """Everything a graph depends on besides the catalogue."""

    llm: EngineSettings = Field(description="which language model, run by what")
    engines: int = Field(default=1, ge=1, description="engines at work, each with the model")
    columns: tuple[str, ...] | None = Field(
        default=None,
        description="of the catalogue, that the profile is written from; none: all but ids and vectors",
    )
    entities: dict[str, str] = Field(
        default={},
        description="columns whose values are entities as they stand, with the type of each: {brand: brand}",
    )
    separators: dict[str, str] = Field(
        default={},
        description="what stands between the values of such a column, where it has several: {genres: '|'}",
    )
    field_tokens: int = Field(default=250, ge=8, description="of a field, at most; the rest of it is cut off")
    item_tokens: int = Field(default=1000, ge=32, description="of all fields of an item, at most")
    profile_words: int = Field(default=70, ge=10, description="asked of a profile")
    profile_tokens: int = Field(default=160, ge=16, description="of a profile, at most")
    extraction_tokens: int = Field(default=900, ge=64, description="of an extraction, at most")
    max_entities: int = Field(
        default=8, ge=1, le=64, description="that an extraction may name, besides the item"
    )
    max_relations: int = Field(default=4, ge=0, le=64, description="between two of these")
    types: tuple[str, ...] = Field(
        default=tuple(kind for kind in TYPES if kind != "item"),
        min_length=1,
        description="that an entity may have",
    )
    merge_above: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="entities of a type whose names are at least this similar are one",
    )
    sentence_model: str | None = Field(
        default=None, description="of descriptions: a folder or a name of the hub; none: the packaged MiniLM"
    )
