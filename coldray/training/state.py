"""The state of a training after an epoch, in one safetensors file: kill it anywhere, go on from the last epoch."""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from coldray import storage
from coldray.errors import UserError
from coldray.training.backbone import Backbone


@dataclass
class TrainingState:
    """Weights now, weights at the best epoch, and Adam's moments; epochs reseed, so no generator is part of it."""

    backbone: Backbone
    optimiser: torch.optim.Optimizer
    best_value: float = float("-inf")
    stale: int = 0
    """epochs since the best one"""
    best: dict[str, Tensor] = field(default_factory=dict)

    def observe(self, epoch: int, value: float) -> None:
        """Take note of the validation metric after `epoch`, and of the weights if it is the best so far."""
        if value > self.best_value:
            self.best_value, self.stale, self.backbone.best_epoch = value, 0, epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self._trained().items()}
        else:
            self.stale += 1

    def restore_best(self) -> None:
        """Put the weights of the best epoch back into the backbone."""
        self.backbone.load_weights(self.backbone.weights() | self.best)

    def _trained(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.backbone.weights().items() if name != "items.base"}

    def save(self, path: str) -> None:
        """Write the state to `path`, whole or not at all."""
        tensors = {f"now.{name}": tensor for name, tensor in self._trained().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for i, moments in enumerate(self.optimiser.state.values()):
            tensors |= {f"adam.{i}.{name}": tensor for name, tensor in moments.items()}
        record = {
            "epochs": self.backbone.epochs,
            "best_epoch": self.backbone.best_epoch,
            "best_value": self.best_value,
            "stale": self.stale,
        }
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        storage.write_bytes(path, save(held, metadata={"state": json.dumps(record)}))

    @classmethod
    def resume(
        cls, path: str | None, backbone: Backbone, optimiser: torch.optim.Optimizer
    ) -> "TrainingState":
        """Return the state at `path`, its weights and moments put in place; the initial one where no file is.

        Raises UserError if the file is not a state of this backbone.
        """
        state = cls(backbone, optimiser)
        if path is None or not storage.exists(path):
            return state
        try:
            state._load(path)
        except (KeyError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path}: is not the state of this training ({reason:.300}); delete it to start anew"
            ) from error
        return state

    def _load(self, path: str) -> None:
        tensors, record = _read(storage.read_bytes(path))
        self.best_value, self.stale = float(record["best_value"]), int(record["stale"])
        self.backbone.epochs, self.backbone.best_epoch = record["epochs"], int(record["best_epoch"])
        device = self.backbone.embedding.weight.device
        now = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith("now.")}
        self.best = {
            name[5:]: tensor.to(device) for name, tensor in tensors.items() if name.startswith("best.")
        }
        self.backbone.load_weights(self.backbone.weights() | now)
        parameters = self.optimiser.param_groups[0]["params"]
        moments = {
            i: {name: tensors[f"adam.{i}.{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
            for i in range(len(parameters))
        }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _read(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the record of a state file; the format's header is JSON behind its 8-byte length."""
    tensors = load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, json.loads(header["__metadata__"]["state"])
