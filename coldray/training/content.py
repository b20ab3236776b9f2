"""Train what maps items' content to recommendations (UniSRec, CLCRec, TDRO): epochs, early stopping, a file of weights."""

import copy
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from coldray import storage
from coldray.data.batches import DeviceSequences, plan_batches
from coldray.data.dataset import Sequences, Split
from coldray.errors import UserError
from coldray.evaluation import Scorer, evaluate, summarise
from coldray.models import clcrec, tdro, unisrec

Report = dict[str, float]
ContentSettings = unisrec.UniSRecSettings | clcrec.CLCRecSettings | tdro.TDROSettings
LONGEST = 50
"""items of a sequence that are trained on, the last ones"""


class ContentModel(Protocol):
    """A model that this module trains, an `nn.Module` in stages of which the last is validated."""

    stages: tuple[str, ...]

    def begin(self, stage: str) -> list[nn.Parameter]:
        """Enter a stage and return what is trained in it."""
        ...

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the loss of sequences [B, L] padded with 0 on the right."""
        ...

    def scorer(self) -> Scorer:
        """Return what ranks the catalogue."""
        ...


KINDS: dict[str, tuple[type[Any], type[ContentSettings], tuple[dict[str, float], ...]]] = {
    "unisrec": (unisrec.UniSRec, unisrec.UniSRecSettings, unisrec.SEARCH),
    "clcrec": (clcrec.CLCRec, clcrec.CLCRecSettings, clcrec.SEARCH),
    "tdro": (tdro.TDRO, tdro.TDROSettings, tdro.SEARCH),
}
"""by method: the model, its settings, and what is tried of them"""


def make_model(
    method: str, content: npt.NDArray[np.float32], num_warm: int, settings: ContentSettings, seed: int
) -> Any:
    """Return the untrained model of a method, its weights drawn from `seed`; content [num_items + 1, e], row 0 zero."""
    torch.manual_seed(seed)
    return KINDS[method][0](content, num_warm, settings)


def fit(model: Any, split: Split, seed: int, device: torch.device) -> Iterator[tuple[int, Report]]:
    """Train a model; yield each epoch's number and report: train_loss and, of the last stage, validation metrics.

    Afterwards the weights are those with the best validation NDCG@10. Nothing but the training and the validation
    sequences is looked at, no cold item either. Raises UserError where no training sequence has two items.
    """
    lengths = split.train.lengths
    train = split.train.take(np.flatnonzero(lengths > 1))
    if not len(train):
        raise UserError(
            f"split {split.name}: no training user has two items; prepare the data with a lower k-core"
        )
    model.to(device)
    settings, number = model.settings, 0
    sequences, rng = DeviceSequences.of(train, device), np.random.default_rng(seed)
    torch.manual_seed(seed)
    best, kept, since = -1.0, copy.deepcopy(model.state_dict()), 0
    for stage in model.stages:
        trained, last = model.begin(stage), stage == model.stages[-1]
        optimiser = torch.optim.Adam(trained, settings.learning_rate)
        for _ in range(settings.max_epochs if last else settings.pretrain_epochs):
            number, started = number + 1, time.perf_counter()
            loss = _epoch(model, trained, optimiser, sequences, rng)
            report = {"train_loss": loss, "train_seconds": time.perf_counter() - started}
            if last:
                report |= validation(model.scorer(), split.validation, split.num_warm, warm_only=True)
                if report["validation_ndcg_at_10"] > best:
                    best, kept, since = report["validation_ndcg_at_10"], copy.deepcopy(model.state_dict()), 0
                else:
                    since += 1
            yield number, report
            if since >= settings.patience:
                break
    model.load_state_dict(kept)


def _epoch(
    model: Any,
    trained: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    sequences: DeviceSequences,
    rng: np.random.Generator,
) -> float:
    """Train an epoch and return its mean loss."""
    model.train()
    total = torch.zeros((), device=sequences.items.device)
    plan = plan_batches(sequences.lengths, model.settings.batch_size, LONGEST, rng)
    for ids, width, _ in plan.on(sequences.items.device):
        items, lengths = sequences.padded(ids, width)
        loss = model.loss(items, lengths)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimiser.step()
        total += loss.detach()
    return float(total) / len(plan)


def validation(scorer: Scorer, users: Sequences, num_warm: int, *, warm_only: bool = False) -> Report:
    """Return NDCG@10 and Recall@10 of users' targets among all items, under the names that runs have for them.

    `warm_only`: among the warm ones, so that nothing of a cold item has a part in it.
    """
    found = evaluate(scorer, users, num_warm, headline_only=not warm_only)
    metrics = summarise(found.rank_warm_kept if warm_only else found.rank_all_kept, found.cold)
    return {
        "validation_ndcg_at_10": metrics["NDCG@10"],
        "validation_recall_at_10": metrics["Recall@10"],
    }


def save_weights(model: nn.Module, path: str) -> None:
    """Write a model's weights as safetensors."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    storage.write_bytes(path, save(weights))


def load_weights(model: nn.Module, path: str) -> None:
    """Read weights into a model of the same settings. Raises UserError where they are not whole or of another one."""
    try:
        model.load_state_dict(load(storage.read_bytes(path)))
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: is not what was trained ({reason:.200}); delete it and run again"
        ) from error
