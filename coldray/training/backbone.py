"""A trained SASRec: its weights as safetensors, what made it as JSON. Nothing is ever unpickled."""

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from coldray import storage
from coldray.errors import UserError
from coldray.models.items import ItemEmbedding
from coldray.models.sasrec import SASRec
from coldray.settings import explain
from coldray.training.settings import TrainingSettings

WEIGHTS = "model.safetensors"
RECORD = "backbone.json"


@dataclass
class Backbone:
    """The encoder and the item embedding of one training."""

    settings: TrainingSettings
    seed: int
    encoder: SASRec
    embedding: ItemEmbedding
    epochs: list[dict[str, float]]
    """what each epoch reported: train_loss, validation_ndcg_at_10, validation_recall_at_10, seconds, ..."""
    best_epoch: int
    """1-based; the weights are those after this epoch"""

    @classmethod
    def initial(
        cls,
        settings: TrainingSettings,
        seed: int,
        num_items: int,
        content: Tensor | None,
        device: torch.device,
    ) -> "Backbone":
        """Return the backbone before its first step, its weights drawn from `seed`.

        content [num_items + 1, d] is the frozen embedding e0, for the variants that have one.
        Raises UserError if it is missing or its d is not the encoder's.
        """
        if settings.variant != "sasrec" and content is None:
            raise UserError(
                f"variant {settings.variant}: needs item embeddings; run coldray encode and name them"
            )
        if content is not None and content.shape[1] != settings.encoder.dim:
            raise UserError(
                f"embedding of {content.shape[1]} dimensions for an encoder of {settings.encoder.dim}; reduce it"
            )
        torch.manual_seed(seed)
        encoder = SASRec(settings.encoder)
        embedding = ItemEmbedding(
            settings.variant, num_items, settings.encoder.dim, content, settings.max_delta_norm
        )
        return cls(settings, seed, encoder.to(device), embedding.to(device), [], 0)

    def weights(self) -> dict[str, Tensor]:
        """Return every parameter and buffer by name, those of the encoder and of the embedding."""
        encoder = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        return encoder | {f"items.{name}": value for name, value in self.embedding.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Copy `weights`, as `weights()` gives them, into the modules."""
        self.encoder.load_state_dict(_below("encoder.", weights))
        self.embedding.load_state_dict(_below("items.", weights))

    @property
    def residuals(self) -> Tensor:
        """The trained residuals D [num_items + 1, d] of the variant `delta`."""
        if self.embedding.base is None:
            raise ValueError(f"the variant {self.settings.variant} has no residuals")
        return self.embedding.weight.detach()

    def save(self, folder: str) -> None:
        """Write the backbone to `folder`, its record last: a folder without one is not whole."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.weights().items()}
        storage.write_bytes(storage.join(folder, WEIGHTS), save(weights))
        record = {
            "format": 1,
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
        }
        storage.write_json(storage.join(folder, RECORD), record)

    @classmethod
    def load(cls, folder: str, device: torch.device | str = "cpu") -> "Backbone":
        """Return the backbone in `folder`. Raises UserError if it is not there, not whole or not ours."""
        record: dict[str, Any] = storage.read_json(storage.join(folder, RECORD))
        try:
            settings = TrainingSettings.model_validate(record["settings"])
            weights = load(storage.read_bytes(storage.join(folder, WEIGHTS)))
            table = weights["items.weight"]
            content = weights.get("items.base", table)
            backbone = cls.initial(settings, record["seed"], len(table) - 1, content, torch.device(device))
            backbone.load_weights(weights)
            backbone.epochs, backbone.best_epoch = record["epochs"], record["best_epoch"]
        except ValidationError as error:
            raise UserError(f"{folder}/{RECORD}: {explain(error)}") from error
        except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{folder}: is no whole backbone ({reason:.300}); delete it and train again"
            ) from error
        return backbone


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
