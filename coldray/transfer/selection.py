"""Choose how to transfer from training data alone: warm items play the cold ones, validation users are the judges.

Two probes are trained, each without a part of the warm items (`coldray.data.pseudo_cold`): to them these items are as
cold as cold ones can be. A search over transfer settings looks at the first; what it finds best must then hold on the
second, for other items and other users: cold NDCG@10 significantly higher than without transfer, and than with the same
residuals dealt out to the wrong items (what an offset or longer vectors alone would do is no transfer); warm NDCG@10 not
significantly lower and by no more than a stated share. If nothing does, nothing is transferred.

Withholding the residuals of items that were trained would cost no training, but the encoder remembers where such items
belong and finds them without any transfer, better than true cold items (docs/transfer.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import torch
from pydantic import Field

from coldray.data.batches import DeviceSequences
from coldray.data.dataset import Sequences
from coldray.evaluation import evaluate, ndcg
from coldray.evaluation.ranking import top_scores
from coldray.evaluation.significance import paired_test
from coldray.models.sasrec import SASRec
from coldray.models.scorers import SASRecScorer
from coldray.settings import Settings
from coldray.transfer.gate import Gate
from coldray.transfer.neighbors import Neighbors, nearest_warm
from coldray.transfer.residuals import Transfer, TransferSettings, propagate

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

WIDEST = 100
"""largest K that is tried"""
MARGINS = (-0.5, 0.0, 1.0, 2.0, 4.0, 6.0)
"""the candidates are the best for cold items whose warm NDCG@10 rises by at least these times `max_warm_loss`"""
OFFSETS = np.linspace(-0.25, 0.25, 21)
"""offsets of the cold items' scores that are tried, in standard deviations of a user's scores; larger ones fit the model
that they were found on and not the next one, which was trained on other data"""
PAPER: dict[str, Any] = {"k": 10, "temperature": 0.07, "alpha": 1.0, "rescale": False}
PAPER |= {"gate": "maxsim_sigmoid", "tau": 0.25, "beta": 20.0, "space": "item_vectors"}
"""the settings of gated residual transfer, which are tried first"""


class SelectionSettings(Settings):
    """How a transfer is chosen."""

    pseudo_cold: float = Field(
        0.10, gt=0, le=0.4, description="share of the warm items that a probe never sees"
    )
    seed: int = Field(42, ge=0, description="of the items drawn, of the probes' training and of the search")
    trials: int = Field(80, ge=1, description="transfer settings tried on the first probe")
    users: int = Field(
        4000,
        ge=1,
        description="most users with a pseudo-cold target, and with a warm one, that a trial ranks",
    )
    test_users: int = Field(10_000, ge=1, description="the same, for the test on the second probe")
    max_warm_loss: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="share of the warm NDCG@10 that may be lost in the test, if not significantly",
    )
    significance: float = Field(
        0.05, gt=0, lt=1, description="p value, of all tests of the candidates together"
    )


@dataclass(frozen=True)
class Probe:
    """A model that was trained without some items, and users who say how well it ranks them."""

    encoder: SASRec
    content: Float32
    """[num_items + 1, d] frozen vectors e0, the pseudo-cold items last, row 0 the padding's"""
    embedding: Float32
    """[num_items + 1, e] the embedding that they were reduced from"""
    residuals: Float32
    """[num_items + 1, d] trained residuals D"""
    num_warm: int
    users: Sequences
    """with targets of both kinds"""


@dataclass(frozen=True)
class Tried:
    """A transfer, None for no transfer, on the first probe, with one offset of the cold items' scores after another."""

    transfer: TransferSettings | None
    """its own offset is not counted"""
    offsets: tuple[float, ...]
    cold: tuple[float, ...]
    """mean NDCG@10 of users with a pseudo-cold target, at each offset"""
    warm: tuple[float, ...]
    """likewise with a warm target"""

    def best(self, least: float) -> tuple[float, float]:
        """Return the highest cold NDCG@10 where the warm one is `least` or more, and its offset; -inf if nowhere."""
        values = np.where(np.array(self.warm) >= least, self.cold, -np.inf)
        place = int(values.argmax())
        return float(values[place]), self.offsets[place]


@dataclass(frozen=True)
class Verdict:
    """How a candidate did on the second probe."""

    transfer: TransferSettings
    before: tuple[float, float]
    """cold and warm NDCG@10 without transfer"""
    after: tuple[float, float]
    shuffled: float
    """cold NDCG@10 with the residuals dealt out to the wrong items"""
    p: tuple[float, float, float]
    """of the differences, cold and warm, to no transfer, and cold, to the shuffled one: sign-flip tests over items where
    cold, times the number of candidates, and over users where warm"""
    passed: bool


@dataclass(frozen=True)
class Choice:
    """What was chosen, and all that led to it."""

    transfer: TransferSettings | None
    """None: no transfer"""
    tried: tuple[Tried, ...]
    """no transfer first, then in the order of the search"""
    verdicts: tuple[Verdict, ...]
    users: tuple[tuple[int, int], tuple[int, int]]
    """with a pseudo-cold and a warm target, of the search and of the test"""

    def record(self) -> dict[str, Any]:
        """Return everything as JSON-like data."""
        plain: dict[str, Any] = _plain(self)
        return plain | {"reason": self.reason}

    @property
    def reason(self) -> str:
        """The choice in a sentence."""
        if self.transfer is not None:
            verdict = next(verdict for verdict in self.verdicts if verdict.transfer == self.transfer)
            (cold, warm), (new_cold, new_warm) = verdict.before, verdict.after
            return (
                f"pseudo-cold NDCG@10 {cold:.4f} -> {new_cold:.4f} (p {verdict.p[0]:.2g}), warm {warm:.4f} -> "
                f"{new_warm:.4f} (p {verdict.p[1]:.2g})"
            )
        if not self.tried:
            return "no transfer: no validation user has a target of each kind to judge by"
        if not self.verdicts:
            return "no transfer: of all settings tried none was better for pseudo-cold items at the warm loss allowed"
        return f"no transfer: none of the {len(self.verdicts)} best settings was surely better on other items and users"


def _plain(value: Any) -> Any:
    """Return a result as JSON-like data."""
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def select_transfer(
    search: Probe, test: Probe, settings: SelectionSettings, progress: Callable[[int], None] | None = None
) -> Choice:
    """Return the transfer that surely helps the items that are cold to the probes and does not hurt warm ones, or none.

    The same arguments give the same choice. `progress` is told the number of settings tried.
    """
    first = Judge(search, settings.users, settings.seed)
    second = Judge(test, settings.test_users, settings.seed)
    sizes = (first.sizes, second.sizes)
    if 0 in (*first.sizes, *second.sizes):
        return Choice(None, (), (), sizes)
    tried = _search(first, settings, progress)
    verdicts = _test(second, _candidates(tried, settings), settings)
    passed = [verdict for verdict in verdicts if verdict.passed]
    chosen = max(passed, key=lambda verdict: verdict.after[0]).transfer if passed else None
    return Choice(chosen, tuple(tried), tuple(verdicts), sizes)


class Judge:
    """Measures transfers on a probe, on at most `most` of its users of each kind."""

    def __init__(self, probe: Probe, most: int, seed: int) -> None:
        self.probe = probe
        cold = np.asarray(probe.users.targets) > probe.num_warm
        random = np.random.default_rng(seed)
        drawn = [random.permutation(np.flatnonzero(kind))[:most] for kind in (cold, ~cold)]
        self.users = probe.users.take(np.sort(np.concatenate(drawn)))
        self.is_cold = np.asarray(self.users.targets) > probe.num_warm
        device = next(probe.encoder.parameters()).device
        self._table = torch.from_numpy(probe.content + probe.residuals).to(device)
        self._bias = torch.zeros(len(self._table), device=device)
        self._neighbors: dict[str, Neighbors] = {}

    @property
    def sizes(self) -> tuple[int, int]:
        """Users with a pseudo-cold target, and with a warm one."""
        return int(self.is_cold.sum()), int((~self.is_cold).sum())

    def by_item(self, gains: Float64) -> Float64:
        """Return the sums [items] of what users with a pseudo-cold target gain [n], over those with the same target.

        A residual that happens to suit an item suits all who want it: other items, not other users, are the question.
        """
        targets = np.asarray(self.users.targets)[self.is_cold]
        _, item = np.unique(targets, return_inverse=True)
        return np.bincount(item, weights=gains).astype(np.float64)

    def transfer(self, settings: TransferSettings) -> Transfer[npt.NDArray[Any]]:
        """Return what the pseudo-cold items get from the warm ones."""
        probe, first = self.probe, self.probe.num_warm + 1
        vectors = probe.content if settings.space == "item_vectors" else probe.embedding
        if settings.space not in self._neighbors:
            k = min(WIDEST, probe.num_warm)
            self._neighbors[settings.space] = nearest_warm(
                vectors[first:], vectors[1:first], k, settings.index
            )
        near = self._neighbors[settings.space]
        return propagate(
            vectors[first:], vectors[1:first], probe.residuals[1:first], settings, neighbors=near
        )

    def curve(self, settings: TransferSettings | None) -> Tried:
        """Return the mean NDCG@10 with what `settings` give the pseudo-cold items, at every offset of their scores."""
        scorer = self._scorer(settings)
        top = top_scores(scorer, self.users, self.probe.num_warm)
        offsets = [float(offset) for offset in np.round(OFFSETS * self.unit, 6)]
        values = [ndcg(top.ranks(offset)) for offset in offsets]
        cold, warm = (
            tuple(float(value[kind].mean()) for value in values) for kind in (self.is_cold, ~self.is_cold)
        )
        return Tried(settings, tuple(offsets), cold, warm)

    @cached_property
    def unit(self) -> float:
        """Standard deviation of the scores that a user's items have, without transfer, on average over users."""
        scorer = self._scorer(None)
        histories = DeviceSequences.of(self.users.take(np.arange(min(256, len(self.users)))), scorer.device)
        every = torch.arange(len(histories), device=scorer.device)
        with torch.inference_mode():
            scores = scorer.scores(scorer.encode(*histories.padded(every, scorer.max_length)))
            return float(scores[:, 1:].std(dim=1).mean())

    def ndcg(self, settings: TransferSettings | None, *, shuffled: bool = False) -> tuple[Float64, Float64]:
        """Return NDCG@10 of the users with a pseudo-cold target [n] and of those with a warm one [m].

        `settings` say what the pseudo-cold items are given; None: nothing. `shuffled`: each is given another one's.
        """
        offset = 0.0 if settings is None else settings.offset
        scorer = self._scorer(settings, offset, shuffled)
        ranks = evaluate(scorer, self.users, self.probe.num_warm, headline_only=True).rank_all_kept
        return ndcg(ranks[self.is_cold]), ndcg(ranks[~self.is_cold])

    def _scorer(
        self, settings: TransferSettings | None, offset: float = 0.0, shuffled: bool = False
    ) -> SASRecScorer:
        first = self.probe.num_warm + 1
        vectors = self.probe.content[first:]
        if settings is not None:
            order = np.random.default_rng(0).permutation(len(vectors)) if shuffled else slice(None)
            vectors = vectors + self.transfer(settings).residuals[order]
        self._table[first:] = torch.from_numpy(vectors).to(self._table)
        self._bias[first:] = offset
        return SASRecScorer(self.probe.encoder, self._table, self._bias if offset else None)


def _search(judge: Judge, settings: SelectionSettings, progress: Callable[[int], None] | None) -> list[Tried]:
    """Return no transfer and every setting tried, by a tree-structured Parzen estimator that starts at the paper's.

    A setting is worth the cold NDCG@10 that it has at the offset that keeps the warm one: so settings are compared where
    they cost the same.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=settings.seed, n_startup_trials=max(1, settings.trials // 3))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(PAPER)
    tried = [judge.curve(None)]
    least = _warm(tried[0], MARGINS[0], settings)
    for number in range(settings.trials):
        trial = study.ask()
        tried.append(judge.curve(_suggest(trial, min(WIDEST, judge.probe.num_warm))))
        study.tell(trial, max(0.0, tried[-1].best(least)[0]))
        if progress is not None:
            progress(number + 1)
    return tried


def _warm(nothing: Tried, margin: float, settings: SelectionSettings) -> float:
    """Return the warm NDCG@10 without transfer, raised by `margin` times the loss allowed."""
    plain = nothing.warm[nothing.offsets.index(0.0)]
    return plain * (1 + margin * settings.max_warm_loss)


def _suggest(trial: optuna.Trial, k_max: int) -> TransferSettings:
    """Return the settings of a trial."""
    kind = trial.suggest_categorical("gate", ["none", "maxsim_sigmoid", "entropy_sigmoid"])
    gate = None
    if kind != "none":
        tau, beta = trial.suggest_float("tau", 0.0, 1.0), trial.suggest_float("beta", 2.0, 50.0, log=True)
        gate = Gate.model_validate({"kind": kind, "tau": tau, "beta": beta})
    return TransferSettings(
        k=trial.suggest_int("k", 1, k_max, log=True),
        temperature=trial.suggest_float("temperature", 0.005, 0.5, log=True),
        gate=gate,
        alpha=trial.suggest_float("alpha", 0.25, 2.0),
        rescale=trial.suggest_categorical("rescale", [False, True]),
        space=trial.suggest_categorical("space", ["item_vectors", "embedding"]),
    )


def _candidates(tried: Sequence[Tried], settings: SelectionSettings) -> list[TransferSettings]:
    """Return the best for cold items of what was tried, at each margin by which the warm metric rose.

    The best of many is partly luck, in warm as in cold: where the first of them loses too much, a safer one may hold.
    """
    nothing = tried[0].cold[tried[0].offsets.index(0.0)]
    chosen: list[TransferSettings] = []
    for margin in MARGINS:
        least = _warm(tried[0], margin, settings)
        best = max(tried[1:], key=lambda item: item.best(least)[0])
        cold, offset = best.best(least)
        if cold > nothing and best.transfer is not None:
            candidate = best.transfer.model_copy(update={"offset": offset})
            chosen += [candidate] if candidate not in chosen else []
    return chosen


def _test(judge: Judge, candidates: Sequence[TransferSettings], settings: SelectionSettings) -> list[Verdict]:
    """Return the verdicts on the candidates."""
    verdicts: list[Verdict] = []
    if not candidates:
        return verdicts
    before = judge.ndcg(None)
    for candidate in candidates:
        after = judge.ndcg(candidate)
        control = judge.ndcg(candidate, shuffled=True)[0]
        cold, warm = (new - old for new, old in zip(after, before, strict=True))
        gains = (cold, after[0] - control)
        p_cold, p_control = (min(1.0, paired_test(judge.by_item(gain)) * len(candidates)) for gain in gains)
        p_warm = paired_test(warm)
        helps = min(gain.mean() for gain in gains) > 0 and max(p_cold, p_control) < settings.significance
        lost = -warm.mean()
        hurts = lost > settings.max_warm_loss * before[1].mean() or (
            lost > 0 and p_warm < settings.significance
        )
        means = [(float(of[0].mean()), float(of[1].mean())) for of in (before, after)]
        p = (p_cold, p_warm, p_control)
        passed = bool(helps and not hurts)
        verdicts.append(Verdict(candidate, means[0], means[1], float(control.mean()), p, passed))
    return verdicts
