"""What a sweep is: one YAML file, checked in full before anything starts."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from coldray.settings import Settings
from coldray.sweep.methods import (
    ASKING,
    NEEDS_EMBEDDING,
    TRANSFERRING,
    WALKING,
    Method,
)
from coldray.training import TrainingSettings
from coldray.transfer import SelectionSettings, TransferSettings
from coldray.transfer.residuals import Space
from coldray.zeroshot.settings import ZeroShotSettings


class Resources(Settings):
    """What Ray reserves for each trial."""

    cpus: int = Field(1, ge=1, description="logical CPUs, which is also the number of threads of a trial")
    gpus: float = Field(
        0,
        ge=0,
        description="GPUs or a fraction of one, so that trials share it; above 0 a trial computes on it",
    )
    workers: int = Field(
        1,
        ge=1,
        description="that train a backbone together, each with as much again as the trial; all see the folder of the runs",
    )


class SweepSettings(Settings):
    """A sweep: methods by seeds, those that transfer also by K."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    dataset: str = Field(description="folder or URI of a prepared data set")
    split: str = Field("leave_one_out", description="name of one of its splits")
    embedding: str | None = Field(
        "minilm", description="name of one of its embeddings; null where no method needs one"
    )
    modalities: tuple[Space, ...] = Field(
        (),
        description="names of further embeddings, in which neighbours may be looked for as well: by transfer.space and "
        "transfer.also, and by delta+selected, which chooses among them",
    )
    methods: tuple[Method, ...] = Field(("delta", "delta+knn+gate", "history-average"), min_length=1)
    baseline: Method | Literal["best"] = Field(
        "delta",
        description="what the report compares with; best: of all but ColdRAG and its ablations the one with the highest cold "
        "NDCG@10",
    )
    cold_users: int | None = Field(
        None,
        ge=1,
        description="test on so many users whose target is cold, drawn once, and on nobody else; null: on all test users",
    )
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (10, 25, 50, 100), description="neighbours, for methods that transfer"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((42, 43, 44, 45, 46), min_length=1)
    training: TrainingSettings = TrainingSettings()
    transfer: TransferSettings = TransferSettings()
    selection: SelectionSettings = Field(
        SelectionSettings(), description="how delta+selected chooses its transfer"
    )
    search: bool = Field(
        True,
        description="choose settings of unisrec, clcrec and tdro on items taken out of training; false: take the papers'",
    )
    zeroshot: ZeroShotSettings | None = Field(
        None, description="of the methods that ask a language model, and those alone"
    )
    share_backbones: bool = Field(
        True, description="train once for all K; false trains each cell's own, to the same numbers"
    )
    resources: Resources = Resources()

    @field_validator("modalities", "methods", "k", "seeds")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) < len(values):
            raise ValueError("has an entry twice; remove one")
        return values

    @model_validator(mode="after")
    def _spaces_are_there(self) -> "SweepSettings":
        own = ("item_vectors", "embedding", self.embedding)
        if taken := [name for name in self.modalities if name in own]:
            raise ValueError(
                f"modalities: {taken[0]} is what the sweep calls its embedding; name further ones only"
            )
        if self.modalities and self.embedding is None:
            raise ValueError("modalities need an embedding, which items are represented by; name one")
        there = [*own[:2], *self.modalities]
        for space in (self.transfer.space, *(item.space for item in self.transfer.also)):
            if space not in there:
                raise ValueError(
                    f"transfer looks in {space}, which is none of {', '.join(there)}; add it to modalities"
                )
        return self

    @model_validator(mode="after")
    def _fits(self) -> "SweepSettings":
        if self.baseline != "best" and self.baseline not in self.methods:
            raise ValueError(f"baseline {self.baseline} is not among methods; add it or name another")
        if self.baseline in TRANSFERRING:
            raise ValueError(
                f"baseline {self.baseline} transfers, so it is one method for each k; name one that does not"
            )
        if self.embedding is None and (needing := [m for m in self.methods if m in NEEDS_EMBEDDING]):
            raise ValueError(f"embedding is null, but {needing[0]} needs one")
        if any(m in TRANSFERRING for m in self.methods) and not self.k:
            raise ValueError("k is empty, but a method transfers; name at least one")
        asking = [method for method in self.methods if method in ASKING]
        if asking and (self.zeroshot is None or self.cold_users is None):
            raise ValueError(
                f"{asking[0]} asks a language model: name one in zeroshot, and a number of cold_users"
            )
        if self.baseline == "best" and all(method in WALKING for method in self.methods):
            raise ValueError(
                "baseline is best, but methods has nothing besides ColdRAG; add what it is compared with"
            )
        if "variant" in self.training.model_fields_set:
            raise ValueError("training.variant follows from methods; remove it")
        if {"k"} & self.transfer.model_fields_set:
            raise ValueError("transfer.k follows from k; remove it")
        return self
