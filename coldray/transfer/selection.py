"""Choose how to transfer from training data alone: warm items play the cold ones, validation users are the judges.

Probes are trained, each without a part of the warm items (`coldray.data.pseudo_cold`): to them these items are as cold as
cold ones can be. A search over transfer settings looks at some of them; what it finds best must then hold on the others,
for other items and other users: cold NDCG@10 significantly higher than without transfer, and than without transfer at
the exposure that costs warm users as much (what showing cold items more often does is no transfer); warm NDCG@10 not
significantly lower and by no more than a stated share. If nothing does, nothing is transferred.

Withholding the residuals of items that were trained would cost no training, but the encoder remembers where such items
belong and finds them without any transfer, better than true cold items (docs/transfer.md).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import optuna
from pydantic import Field, model_validator

from coldray.evaluation.significance import paired_test
from coldray.settings import Settings
from coldray.transfer.alignment import alignment
from coldray.transfer.judge import Float64, Panel, Probe
from coldray.transfer.modalities import WIDEST
from coldray.transfer.residuals import TransferSettings
from coldray.transfer.search import first_trial, suggest

MARGINS = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
"""the candidates are the best for cold items whose warm NDCG@10 rises by at least these times `max_warm_loss`, less its
error; the search looks at the first"""
FINALISTS = 4
"""settings with each bound that are measured again on more users"""
EXPOSURES = tuple(float(times) for times in np.geomspace(0.25, 32, 36).round(3))
"""places of cold items among the first ten that are tried, as multiples of those that they have without transfer"""
RETRAINING = 0.015
"""standard deviation of a probe's warm NDCG@10 over trainings, as a share: what one training gains over another of its
kind, the next one need not gain"""


class SelectionSettings(Settings):
    """How a transfer is chosen."""

    pseudo_cold: float = Field(
        0.10, gt=0, le=0.4, description="share of the warm items that a probe never sees"
    )
    max_delta_norms: tuple[float | None, ...] = Field(
        (2.0,),
        description="bounds of the residuals' norm to choose from, besides the training's own; each costs trainings",
    )
    probes: int | None = Field(
        None,
        ge=1,
        description="probes on each side, search and test; none: as many, up to 4, as give 1,000 users with a pseudo-cold target",
    )
    seed: int = Field(42, ge=0, description="of the items drawn, of the probes' training and of the search")
    trials: int = Field(100, ge=1, description="transfer settings tried")
    users: int = Field(
        4000,
        ge=1,
        description="most users of a probe with a pseudo-cold target, and with a warm one, that a trial ranks",
    )
    test_users: int = Field(
        50_000, ge=1, description="the same, where the best are measured again and where they are tested"
    )
    max_warm_loss: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="share of the warm NDCG@10 that may be lost in the test, if not significantly",
    )
    significance: float = Field(0.05, gt=0, lt=1, description="p value of the tests")

    @model_validator(mode="after")
    def _enough_items(self) -> "SelectionSettings":
        if 2 * (self.probes or 1) * self.pseudo_cold >= 1:
            raise ValueError(
                f"pseudo_cold: {self.pseudo_cold} of the warm items for each of {2 * (self.probes or 1)} probes leaves none; "
                "lower it, or probes"
            )
        return self

    def parts(self, users: int) -> int:
        """Return the number of probes on each side for a data set with so many validation users."""
        if self.probes is not None:
            return self.probes
        wanted = -(-ENOUGH // max(1, round(self.pseudo_cold * users)))
        return max(1, min(wanted, MOST, int(0.99 / self.pseudo_cold / 2)))


ENOUGH = 1000
"""users with a pseudo-cold target on each side, where there are enough for them"""
MOST = 4
"""probes on each side, if not said otherwise"""


@dataclass(frozen=True)
class ProbeSet:
    """Probes that were trained with the same bound of the residuals' norm."""

    max_delta_norm: float | None
    search: Sequence[Probe]
    test: Sequence[Probe]
    """without other items than the probes of the search"""


@dataclass(frozen=True)
class Tried:
    """A transfer, None for no transfer, on the probes of the search, with one exposure of the cold items after another."""

    transfer: TransferSettings | None
    """its own exposure is not counted"""
    max_delta_norm: float | None
    exposures: tuple[float, ...]
    cold: tuple[float, ...]
    """mean NDCG@10 of users with a pseudo-cold target, at each exposure"""
    warm: tuple[float, ...]
    """likewise of users with a warm target"""
    errors: tuple[tuple[float, ...], tuple[float, ...]]
    """standard errors of their differences to no transfer: of the cold ones over items; of the warm ones over users and,
    with another bound of the residuals' norm, between trainings"""

    def best(self, least: float) -> tuple[float, float]:
        """Return the highest cold NDCG@10 where the warm one is `least` or more, and its exposure; -inf if nowhere.

        Each is taken less its error.
        """
        cold = np.array(self.cold) - np.array(self.errors[0])
        warm = np.array(self.warm) - np.array(self.errors[1])
        values = np.where(warm >= least, cold, -np.inf)
        place = int(values.argmax())
        return float(values[place]), self.exposures[place]


@dataclass(frozen=True)
class Verdict:
    """How a candidate did on the probes of the test."""

    transfer: TransferSettings
    max_delta_norm: float | None
    before: tuple[float, float]
    """cold and warm NDCG@10 without transfer"""
    after: tuple[float, float]
    exposed: float
    """cold NDCG@10 without transfer at the exposure with the same warm NDCG@10"""
    p: tuple[float, float, float]
    """that cold NDCG@10 is not higher than without transfer, that the warm one is the same, and that the cold one is not
    higher than exposure alone makes it: sign-flip tests, over items where cold and over users where warm"""
    helps: bool
    hurts: bool


@dataclass(frozen=True)
class Choice:
    """What was chosen, and all that led to it."""

    transfer: TransferSettings | None
    """None: no transfer"""
    max_delta_norm: float | None
    """bound of the residuals' norm to train with"""
    before: tuple[float, float] | None
    """cold and warm NDCG@10 without transfer in the search; None without users to judge by"""
    tried: tuple[Tried, ...]
    """in the order of the search"""
    finalists: tuple[Tried, ...]
    """no transfer, with each bound, the paper's settings, then the best that were tried: measured again on more users"""
    verdicts: tuple[Verdict, ...]
    users: tuple[tuple[int, int], tuple[int, int]]
    """with a pseudo-cold and a warm target, of the search and of the test"""
    alignment: float | None
    """of the first probe's embedding and residuals: about 0 where neighbours say nothing; None without residuals"""

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
            return "no transfer: of all settings tried none was surely better for pseudo-cold items at no warm loss"
        if all(verdict.hurts for verdict in self.verdicts):
            return f"no transfer: all of the {len(self.verdicts)} best settings cost too much on other items and users"
        return "no transfer: the best setting was not surely better for other items and users"


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
    sets: Sequence[ProbeSet], settings: SelectionSettings, progress: Callable[[int], None] | None = None
) -> Choice:
    """Return the transfer that surely helps the items that are cold to the probes and does not hurt warm ones, or none.

    All is compared with the probes of the first set without transfer: it has the bound of the residuals' norm that is
    taken where nothing is transferred. The same arguments give the same choice. `progress` is told the number of
    settings tried. Raises ValueError without a set.
    """
    if not sets:
        raise ValueError("a choice needs probes")
    bounds = [part.max_delta_norm for part in sets]
    first, again = (
        Round({part.max_delta_norm: Panel(part.search, most, settings.seed) for part in sets})
        for most in (settings.users, settings.test_users)
    )
    second = Round(
        {part.max_delta_norm: Panel(part.test, settings.test_users, settings.seed) for part in sets}
    )
    sizes, aligned = (again.sizes, second.sizes), _alignment(sets[0].search[0])
    if 0 in (*sizes[0], *sizes[1]):
        return Choice(None, bounds[0], None, (), (), (), sizes, aligned)
    tried = _search(first, settings, progress)
    finalists = [again.curve(item.transfer, item.max_delta_norm) for item in _best(first, tried, settings)]
    verdicts = _test(second, _candidates(again, finalists, settings), settings)
    # Whom a candidate costs are other users than whom it helps, so that leaving out those that cost too much does not
    # spoil the test of the first one that is left.
    best = next((verdict for verdict in verdicts if not verdict.hurts), None)
    transfer, bound = (None, bounds[0])
    if best is not None and best.helps:
        transfer, bound = best.transfer, best.max_delta_norm
    return Choice(
        transfer, bound, again.means, tuple(tried), tuple(finalists), tuple(verdicts), sizes, aligned
    )


def _alignment(probe: Probe) -> float | None:
    warm = slice(1, probe.num_warm + 1)
    found = alignment(probe.embeddings["embedding"][warm], probe.residuals[warm])
    return None if math.isnan(found) else found


class Round:
    """One stage of the choice: the same users on probes with each bound of the residuals' norm, the reference first."""

    def __init__(self, panels: dict[float | None, Panel]) -> None:
        self.panels = panels
        self.bounds = list(panels)
        self.reference = panels[self.bounds[0]]
        self.sizes = self.reference.sizes
        gains = self.reference.gains(None)
        self.before = gains[0][0], gains[1][0]
        """NDCG@10 without transfer of users with a pseudo-cold target [n] and with a warm one [m]"""

    @property
    def means(self) -> tuple[float, float]:
        """Cold and warm NDCG@10 without transfer."""
        return float(self.before[0].mean()), float(self.before[1].mean())

    def doubt(self, bound: float | None) -> float:
        """Return the warm NDCG@10 by which models of another bound may be better by the luck of their training."""
        if bound == self.bounds[0]:
            return 0.0
        return RETRAINING * self.means[1] / math.sqrt(len(self.reference.judges))

    def least(self, margin: float, settings: SelectionSettings) -> float:
        """Return the warm NDCG@10 without transfer, raised by `margin` times the loss allowed."""
        return self.means[1] * (1 + margin * settings.max_warm_loss)

    def curve(self, transfer: TransferSettings | None, bound: float | None) -> Tried:
        """Return what `transfer` does at every exposure."""
        cold, warm = self.panels[bound].gains(transfer, EXPOSURES)
        by_item = [self.reference.by_item(row - self.before[0]) for row in cold]
        errors = (
            tuple(float(of.std() * math.sqrt(len(of)) / cold.shape[1]) for of in by_item),
            tuple(
                math.hypot(of.std() / math.sqrt(len(of)), self.doubt(bound)) for of in warm - self.before[1]
            ),
        )
        means = [tuple(float(value) for value in of.mean(axis=1)) for of in (cold, warm)]
        return Tried(transfer, bound, EXPOSURES, means[0], means[1], errors)


def _search(stage: Round, settings: SelectionSettings, progress: Callable[[int], None] | None) -> list[Tried]:
    """Return every setting tried, by a tree-structured Parzen estimator that starts at the paper's.

    A setting is worth the cold NDCG@10 that it has at the exposure that keeps the warm one within the loss allowed, both
    less their errors: so settings are compared where they cost the same, and what helps many items goes before what
    happens to help a few as much.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=settings.seed, n_startup_trials=max(1, settings.trials // 3))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    spaces = stage.reference.spaces
    study.enqueue_trial(first_trial(spaces) | {"bound": 0})
    tried: list[Tried] = []
    for number in range(settings.trials):
        trial = study.ask()
        bound = stage.bounds[trial.suggest_categorical("bound", range(len(stage.bounds)))]
        made = suggest(trial, min(WIDEST, stage.reference.num_warm), spaces)
        tried.append(stage.curve(made, bound))
        study.tell(trial, max(0.0, tried[-1].best(stage.least(MARGINS[0], settings))[0]))
        if progress is not None:
            progress(number + 1)
    return tried


def _best(stage: Round, tried: Sequence[Tried], settings: SelectionSettings) -> list[Tried]:
    """Return no transfer, with each bound, the paper's settings, and for each bound the best that were tried."""
    nothing = [Tried(None, bound, (), (), (), ((), ())) for bound in stage.bounds]
    least = stage.least(MARGINS[0], settings)
    ranked = sorted(tried[1:], key=lambda item: -item.best(least)[0])
    best = [[item for item in ranked if item.max_delta_norm == bound][:FINALISTS] for bound in stage.bounds]
    return [*nothing, tried[0], *(item for group in best for item in group)]


Candidate = tuple[TransferSettings, float | None]
"""with its exposure, and the bound of the residuals' norm"""


def _candidates(stage: Round, finalists: Sequence[Tried], settings: SelectionSettings) -> list[Candidate]:
    """Return the best finalist with each bound at each margin by which the warm metric rose, best for cold items first.

    The best of many is partly luck, in warm as in cold: where the first of them loses too much, a safer one may hold, or
    one with the bound that needs no other model.
    """
    transfers = [(item, item.transfer) for item in finalists if item.transfer is not None]
    found: dict[Candidate, float] = {}
    for bound in stage.bounds:
        for margin in MARGINS:
            least = stage.least(margin, settings)
            pairs = [pair for pair in transfers if pair[0].max_delta_norm == bound]
            for item, transfer in sorted(pairs, key=lambda pair: -pair[0].best(least)[0])[:1]:
                value, exposure = item.best(least)
                if value > stage.means[0]:
                    found[transfer.model_copy(update={"exposure": exposure}), bound] = value
    return sorted(found, key=lambda candidate: -found[candidate])


def _test(stage: Round, candidates: Sequence[Candidate], settings: SelectionSettings) -> list[Verdict]:
    """Return the verdicts on the candidates."""
    verdicts: list[Verdict] = []
    before, reference = stage.before, stage.reference
    alone = reference.gains(None, EXPOSURES)
    for transfer, bound in candidates:
        after = [part[0] for part in stage.panels[bound].gains(transfer, [transfer.exposure])]
        as_warm = np.flatnonzero(alone[1].mean(axis=1) >= after[1].mean())
        exposed = alone[0][as_warm[-1] if len(as_warm) else 0]
        cold, warm = (new - old for new, old in zip(after, before, strict=True))
        gains = (cold, after[0] - exposed)
        p_cold, p_exposed = (_p_higher(reference.by_item(gain)) for gain in gains)
        p_warm = paired_test(warm)
        helps = max(p_cold, p_exposed) < settings.significance
        hurts = (warm.mean() < 0 and p_warm < settings.significance) or (
            warm.mean() - stage.doubt(bound) < -settings.max_warm_loss * before[1].mean()
        )
        means = [(float(of[0].mean()), float(of[1].mean())) for of in (before, after)]
        p = (p_cold, p_warm, p_exposed)
        verdicts.append(
            Verdict(transfer, bound, means[0], means[1], float(exposed.mean()), p, bool(helps), bool(hurts))
        )
    return verdicts


def _p_higher(gains: Float64) -> float:
    """Return the p value of a mean that is not above 0, [n] gains."""
    both = paired_test(gains)
    return both / 2 if gains.mean() > 0 else 1 - both / 2
