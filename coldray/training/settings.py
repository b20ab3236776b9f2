"""What a backbone is trained with; these settings, the data and the seed identify it."""

from typing import Literal

from pydantic import Field

from coldray.models.items import Variant
from coldray.models.sasrec import SASRecSettings
from coldray.settings import Settings


class TrainingSettings(Settings):
    """One training of SASRec."""

    variant: Variant = "delta"
    encoder: SASRecSettings = SASRecSettings()
    loss: Literal["sampled_softmax", "full_softmax"] = "sampled_softmax"
    num_negatives: int = Field(512, ge=1, description="negatives of the sampled softmax, shared by a batch")
    negatives: Literal["uniform", "mixed"] = Field(
        "uniform",
        description="how they are drawn: uniformly from the warm items; mixed: half of them by popularity, which "
        "gets to most of the quality in fewer epochs and ends a little below",
    )
    max_delta_norm: float | None = Field(
        0.5, gt=0, description="bound of each residual's L2 norm; null: none"
    )
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    batch_size: int = Field(128, ge=1, description="sequences")
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(
        5, ge=1, description="epochs without a better validation NDCG@10 before training stops"
    )
    validation_users: int | None = Field(
        10_000,
        ge=1,
        description="users that epochs are validated on, drawn once, the same for all seeds; null: all",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of matrix products; auto: bfloat16 on a GPU and, for the full softmax, on a CPU that has it",
    )
