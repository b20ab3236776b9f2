"""Train SASRec on a split: batches by length, one item lookup a step, early stopping, resumable after any epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coldray.data.batches import DeviceSequences, Plan, plan_batches
from coldray.data.dataset import Sequences, Split
from coldray.errors import UserError
from coldray.evaluation import evaluate, summarise
from coldray.models.losses import full_softmax, sampled_softmax
from coldray.models.scorers import SASRecScorer
from coldray.training.backbone import Backbone
from coldray.training.settings import TrainingSettings
from coldray.training.shard import Shard
from coldray.training.state import TrainingState

Report = dict[str, float]


def train(
    split: Split,
    settings: TrainingSettings,
    seed: int,
    content: npt.NDArray[np.float32] | None = None,
    *,
    device: torch.device | str = "cpu",
    state_file: str | None = None,
    on_epoch: Callable[[int, Report], None] | None = None,
) -> Backbone:
    """Return the backbone with the best validation NDCG@10, in the headline setting.

    The arguments are those of `Trainer`; `on_epoch` is told the number of each epoch, from 1, and its report.
    """
    trainer = Trainer(split, settings, seed, content, device=device, state_file=state_file)
    for epoch, report in trainer.epochs():
        if on_epoch is not None:
            on_epoch(epoch, report)
    return trainer.backbone


def _check(split: Split) -> None:
    if not (split.train.lengths > 1).any():
        raise UserError(
            f"split {split.name}: no training user has two items; prepare the data with a lower k-core"
        )
    if not len(split.validation):
        raise UserError(f"split {split.name}: no validation user; choose another protocol or more data")


def _drawn(users: Sequences, number: int | None) -> Sequences:
    """Return `number` of the users, the same ones every time, or all if there are no more."""
    if number is None or number >= len(users):
        return users
    return users.take(np.sort(np.random.default_rng(0).choice(len(users), number, replace=False)))


@contextmanager
def deterministic() -> Iterator[None]:
    """Use torch's deterministic algorithms within the block."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def product_dtype(settings: TrainingSettings, device: torch.device) -> torch.dtype:
    """Return the type in which large matrix products are computed."""
    if settings.precision == "auto":
        fast = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if settings.precision == "bfloat16" else torch.float32


class Trainer:
    """One training: the data on the device, the epochs, the step."""

    def __init__(
        self,
        split: Split,
        settings: TrainingSettings,
        seed: int,
        content: npt.NDArray[np.float32] | None = None,
        *,
        device: torch.device | str = "cpu",
        state_file: str | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Take content [num_items + 1, d], the embedding e0, row 0 zero; `sasrec` needs none.

        After every epoch the whole state goes to `state_file`; where that file exists training goes on from it, to the
        same weights, bit for bit on a CPU with the same number of threads. With a `shard` this is one of several processes that
        train together: each must get the same arguments, and the first one writes the state.
        Raises UserError for a split without sequences, an embedding that does not fit, a state of something else.
        """
        _check(split)
        self.split = split
        self.settings = settings
        self.device = torch.device(device)
        e0 = None if content is None or settings.variant == "sasrec" else torch.from_numpy(content)
        self.backbone = Backbone.initial(settings, seed, split.num_items, e0, self.device)
        self.dtype = product_dtype(settings, self.device)
        self.sequences = DeviceSequences.of(split.train, self.device)
        self.trainable = np.flatnonzero(split.train.lengths > 1)
        self.validation = _drawn(split.validation, settings.validation_users)
        self.shard = shard
        if shard is not None:
            self.validation = self.validation.take(np.arange(shard.rank, len(self.validation), shard.world))
        self.negatives_from = None if shard is None else torch.Generator(self.device)
        self.log_expected = self._log_expected()
        parameters = [*self.backbone.encoder.parameters(), *self.backbone.embedding.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
        self.state_file = state_file
        self.state = TrainingState.resume(state_file, self.backbone, self.optimiser)

    def epochs(self) -> Iterator[tuple[int, Report]]:
        """Train epoch by epoch and yield each one's number, from 1, and report, its state already saved.

        Ends when validation has not improved for `patience` epochs, with the best epoch's weights in `backbone`.
        """
        first = len(self.backbone.epochs) + 1
        for epoch in range(first, self.settings.max_epochs + 1):
            if self.state.stale >= self.settings.patience:
                break
            with deterministic():
                report = self.epoch(epoch)
            self.backbone.epochs.append(report)
            self.state.observe(epoch, report["validation_ndcg_at_10"])
            if self.state_file is not None and (self.shard is None or self.shard.first):
                self.state.save(self.state_file)
            yield epoch, report
        self.state.restore_best()

    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch: the same for the same seed and epoch, whatever went before."""
        rng = np.random.default_rng([self.backbone.seed, epoch])
        width = self.settings.encoder.max_length + 1  # inputs and, one later, their targets
        plan = plan_batches(self.split.train.lengths[self.trainable], self.settings.batch_size, width, rng)
        return Plan(self.trainable[plan.order], plan.starts, plan.widths, plan.totals)

    def epoch(self, epoch: int) -> Report:
        """Train one epoch, validate, and return train_loss, the validation metrics and the speed."""
        seed = (self.backbone.seed << 20) + epoch  # so that no generator's state need be kept
        torch.manual_seed(seed)
        if self.shard is not None and self.negatives_from is not None:
            torch.manual_seed((self.shard.rank << 50) + seed)  # dropout differs between processes
            self.negatives_from.manual_seed(seed)  # and negatives do not
        started = time.perf_counter()
        loss = self.train_epoch(self.plan(epoch))
        trained = time.perf_counter()
        with torch.no_grad():
            scorer = SASRecScorer(self.backbone.encoder, self.backbone.embedding.table())
        ranked = evaluate(scorer, self.validation, self.split.num_warm, headline_only=True)
        metrics = summarise(ranked.rank_all_kept, ranked.cold)
        ndcg, recall = metrics["NDCG@10"], metrics["Recall@10"]
        if self.shard is not None:
            ndcg, recall = self.shard.mean([ndcg, recall], len(self.validation), self.device)
        return {
            "train_loss": loss,
            "validation_ndcg_at_10": ndcg,
            "validation_recall_at_10": recall,
            "sequences_per_second": len(self.trainable) / (trained - started),
            "train_seconds": trained - started,
            "validation_seconds": time.perf_counter() - trained,
        }

    def train_epoch(self, plan: Plan) -> float:
        """Take one step for each batch of `plan`; return the mean loss over positions."""
        self.backbone.encoder.train()
        total = torch.zeros((), device=self.device)
        positions = 0
        whole, shard = plan.totals - np.diff(plan.starts), self.shard
        if shard is not None:
            width = self.settings.encoder.max_length + 1
            plan = plan.part(shard.rank, shard.world, self.split.train.lengths, width)
        for (ids, width, items), of in zip(plan.on(self.device), whole.tolist(), strict=True):
            total += self.step(ids, width, items - len(ids), of) * (items - len(ids))
            positions += items - len(ids)
        if shard is not None:
            (mean,) = shard.mean([float(total) / max(1, positions)], positions, self.device)
            return mean
        return float(total) / positions

    def step(self, ids: Tensor, width: int, positions: int, whole: int) -> Tensor:
        """Take one optimiser step on the sequences `ids`, `width` items of each, and return the loss.

        `positions` is the number of targets, known to the host, so that the device is never waited for; `whole` that of all
        processes that train together, whose gradients are added, each by its share.
        """
        self.optimiser.zero_grad(set_to_none=True)
        if self.shard is None:
            loss = self.loss(self.sequences.padded(ids, width)[0], positions)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
        else:
            loss = self._share(ids, width, positions, whole, self.shard)
        self.optimiser.step()
        self.backbone.embedding.project()
        return loss.detach()

    def _share(self, ids: Tensor, width: int, positions: int, whole: int, shard: Shard) -> Tensor:
        """Return the loss of this process's part of a batch, with the gradients of the whole batch in place."""
        parameters = self.optimiser.param_groups[0]["params"]
        loss = torch.zeros((), device=self.device)
        if positions:
            loss = self.loss(self.sequences.padded(ids, width)[0], positions)
            (loss * (positions / whole)).backward()  # type: ignore[no-untyped-call]  # torch's
        else:  # the last batch may have fewer sequences than there are processes
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        shard.add(parameter.grad for parameter in parameters)
        return loss

    def loss(self, items: Tensor, positions: int) -> Tensor:
        """Return the mean loss over the `positions` targets of items [B, L + 1]."""
        encoder, embedding = self.backbone.encoder, self.backbone.embedding
        batch, width = items.shape
        sampled = self.settings.loss == "sampled_softmax"
        negatives = self._negatives() if sampled else items.new_zeros(0)
        vectors = embedding(
            torch.cat([items.flatten(), negatives])
        )  # one lookup, so one gradient of the table
        sequence = vectors[: batch * width].view(batch, width, -1)
        targets = items[:, 1:].flatten()
        real = torch.nonzero_static(targets, size=positions)[:, 0]
        with torch.autocast(
            self.device.type, self.dtype, enabled=self.device.type != "cpu" and self.dtype != torch.float32
        ):
            hidden = encoder(sequence[:, :-1])
        queries = hidden.flatten(0, 1)[real].float()
        if sampled:
            positives = sequence[:, 1:].flatten(0, 1)[real]
            samples, expected = vectors[batch * width :], self.log_expected[negatives]
            return sampled_softmax(queries, targets[real], positives, negatives, samples, expected)
        warm = embedding.table()[1 : self.split.num_warm + 1]
        return full_softmax(queries, targets[real] - 1, warm, self.dtype)

    def _negatives(self) -> Tensor:
        """Return warm items [m], the first `_by_popularity` of them items of interactions drawn uniformly."""
        drawn = self._drawn(1, self.split.num_warm + 1, self.settings.num_negatives)
        if self._by_popularity:
            places = self._drawn(0, len(self.sequences.items), self._by_popularity)
            drawn[: self._by_popularity] = self.sequences.items[places]
        return drawn

    def _drawn(self, low: int, high: int, number: int) -> Tensor:
        return torch.randint(low, high, (number,), device=self.device, generator=self.negatives_from)

    @property
    def _by_popularity(self) -> int:
        return self.settings.num_negatives // 2 if self.settings.negatives == "mixed" else 0

    def _log_expected(self) -> Tensor:
        """Return [num_warm + 1] the logarithm of how often each item is expected among the negatives."""
        counts = self.split.train_counts[: self.split.num_warm + 1]
        uniform = (self.settings.num_negatives - self._by_popularity) / self.split.num_warm
        expected = self._by_popularity * counts / counts.sum() + uniform
        return torch.from_numpy(np.log(expected).astype(np.float32)).to(self.device)
