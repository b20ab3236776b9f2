"""How a data set is prepared: the settings that, with the input, decide what comes out."""

from typing import Any, Literal

from pydantic import Field, model_validator

from coldray.settings import Settings

Format = Literal[
    "amazon2014", "amazon2018", "amazon2023", "amazon_m2", "zvuk", "movielens", "recbole", "table"
]

RATED = ("amazon2014", "amazon2018", "amazon2023", "movielens", "recbole")
"""Formats whose positives are, unless said otherwise, the ratings above 3."""
CONSECUTIVE = ("amazon_m2", "zvuk")
"""Sessions and music: formats in which repeats of an item in a row are one interaction."""


class Recipe(Settings):
    """What of the input is kept, and how it is read; where it lies and where it goes is no part of it."""

    format: Format = Field(description="the format of the input")
    min_rating: float | None = Field(None, description="keep ratings above this; none keeps all")
    min_play_seconds: float = Field(60.0, ge=0, description="zvuk: keep plays longer than this, in seconds")
    k_core: int = Field(0, ge=0, description="least interactions of every user and item; 0 keeps all")
    drop_consecutive_duplicates: bool = Field(False, description="make repeats of an item in a row one")
    sample_users: int | None = Field(None, ge=1, description="keep this many users, drawn by `seed`")
    seed: int = Field(42, ge=0, description="draws the users of `sample_users`")
    locale: str | None = Field(None, description="amazon_m2: keep one shop, such as FR; none keeps all")
    user_column: str = Field("user_id", description="table, recbole: the column of users")
    item_column: str = Field("item_id", description="table, recbole: the column of items, in both tables")
    timestamp_column: str | None = Field(None, description="table, recbole: none takes `timestamp` if there")
    rating_column: str | None = Field(None, description="table, recbole: none takes `rating` if there")
    position_column: str | None = Field(None, description="table, recbole: none takes `position` if there")
    rename: dict[str, str] = Field(
        default_factory=dict, description="item columns: published name to new name"
    )
    buckets: int | None = Field(
        None, ge=1, le=65536, description="parts the users are divided into; none: by the size of the input"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_format(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kind = values.get("format")
        defaults: dict[str, Any] = {"drop_consecutive_duplicates": kind in CONSECUTIVE}
        if kind in RATED:
            defaults["min_rating"] = 3.0
        return defaults | values

    @property
    def threshold(self) -> float | None:
        """What the `rating` of an interaction has to exceed; none where all are kept."""
        return self.min_play_seconds if self.format == "zvuk" else self.min_rating
