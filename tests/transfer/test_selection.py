"""The choice of a transfer on made-up data in which it is known what transfer can do."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from coldray.transfer import ProbeSet, SelectionSettings, TransferSettings, select_transfer
from coldray.transfer.judge import Panel
from coldray.transfer.selection import Round, Tried, _candidates

QUICK = SelectionSettings(trials=15, users=200, test_users=500)


def choose(first, second, settings=QUICK):
    return select_transfer([ProbeSet(0.5, [first], [second])], settings)


def test_a_transfer_that_helps_is_chosen(made_up) -> None:
    choice = choose(made_up(True, 0), made_up(True, 1))
    assert choice.transfer is not None
    assert choice.max_delta_norm == 0.5
    verdict = next(verdict for verdict in choice.verdicts if verdict.transfer == choice.transfer)
    assert verdict.helps
    assert not verdict.hurts
    assert verdict.after[0] > 1.2 * verdict.before[0]
    assert verdict.after[0] > 1.2 * verdict.exposed
    assert verdict.after[1] >= verdict.before[1] * (1 - QUICK.max_warm_loss)
    assert "pseudo-cold NDCG@10" in choice.reason
    assert len(choice.tried) == QUICK.trials
    assert choice.tried[0].transfer == TransferSettings()
    assert choice.finalists[0].transfer is None
    assert choice.finalists[1].transfer == TransferSettings()


def test_where_neighbours_say_nothing_none_is_chosen(made_up) -> None:
    choices = [choose(made_up(False, seed), made_up(False, 99 - seed)) for seed in range(10)]
    assert sum(choice.transfer is not None for choice in choices) <= 1  # one in twenty may be by chance
    assert "no transfer" in choices[0].reason


def test_what_holds_on_the_first_probe_alone_is_not_chosen(made_up) -> None:
    choice = choose(made_up(True, 0), made_up(False, 1))
    assert choice.transfer is None
    assert choice.verdicts
    assert not any(verdict.helps for verdict in choice.verdicts)


def test_several_probes_are_judged_as_one(made_up) -> None:
    probes = [made_up(True, seed) for seed in range(4)]
    choice = select_transfer([ProbeSet(None, probes[:2], probes[2:])], QUICK)
    assert choice.transfer is not None
    one = choose(probes[0], probes[2])
    assert choice.users[0][0] > one.users[0][0]


def test_another_bound_of_the_norm_is_taken_where_it_is_better(made_up) -> None:
    def shorter(probe):
        return replace(probe, residuals=probe.residuals / 20)

    good = [made_up(True, seed) for seed in range(2)]
    poor, better = (
        ProbeSet(0.1, [shorter(good[0])], [shorter(good[1])]),
        ProbeSet(2.0, [good[0]], [good[1]]),
    )
    choice = select_transfer([poor, better], QUICK)
    assert choice.max_delta_norm == 2.0
    assert {item.max_delta_norm for item in choice.tried} == {0.1, 2.0}
    assert [item.max_delta_norm for item in choice.finalists[:2]] == [0.1, 2.0]
    assert select_transfer([better, poor], QUICK).max_delta_norm == 2.0


def test_the_luck_of_a_training_is_held_against_another_bound(made_up) -> None:
    panels = {bound: Panel([made_up(True, 0)] * 4, 50, 0) for bound in (0.5, 2.0)}
    stage = Round(panels)
    assert stage.doubt(0.5) == 0.0
    assert stage.doubt(2.0) == pytest.approx(0.015 * stage.means[1] / 2)
    own, other = (stage.curve(TransferSettings(), bound) for bound in panels)
    assert own.warm == other.warm
    assert min(other.errors[1]) >= stage.doubt(2.0)
    assert own.best(stage.means[1])[0] >= other.best(stage.means[1])[0]


def test_the_same_arguments_give_the_same_choice(made_up) -> None:
    first, again = (choose(made_up(True, 0), made_up(True, 1)).record() for _ in range(2))
    assert first == again
    other = choose(made_up(True, 0), made_up(True, 1), QUICK.model_copy(update={"seed": 1}))
    assert first["tried"] != other.record()["tried"]


def curve(k, cold, warm):
    nothing = (0.0, 0.0, 0.0)
    return Tried(TransferSettings(k=k), 0.5, (0.5, 1.0, 2.0), cold, warm, (nothing, nothing))


def test_settings_are_compared_where_they_cost_the_same() -> None:
    item = curve(3, (0.1, 0.2, 0.9), (0.51, 0.5, 0.4))
    assert item.best(0.5) == (0.2, 1.0)
    assert item.best(0.505) == (0.1, 0.5)
    assert item.best(0.6)[0] == -np.inf
    unsure = replace(item, errors=((0.0, 0.15, 0.0), (0.0, 0.0, 0.0)))
    assert unsure.best(0.5) == (0.1, 0.5)
    unsure = replace(item, errors=((0.0, 0.0, 0.0), (0.0, 0.001, 0.0)))
    assert unsure.best(0.5) == (0.1, 0.5)


def test_candidates_are_the_best_for_cold_items_at_several_margins(made_up) -> None:
    stage = Round({0.5: Panel([made_up(True, 0)], 200, 0)})
    stage.before = np.array([0.1]), np.array([0.5])
    settings = SelectionSettings(max_warm_loss=0.01)
    tried = [
        curve(1, (0.2, 0.4, 0.9), (0.52, 0.496, 0.4)),
        curve(2, (0.1, 0.3, 0.8), (0.52, 0.5, 0.4)),
    ]
    found = [(made.k, made.exposure) for made, _ in _candidates(stage, tried, settings)]
    assert found == [(1, 1.0), (2, 1.0), (1, 0.5)]
    assert _candidates(stage, [curve(1, (0.0, 0.05, 0.1), (0.5, 0.5, 0.5))], settings) == []


def test_probes_are_as_many_as_the_users_ask_for() -> None:
    settings = SelectionSettings()
    assert settings.parts(50_000) == 1
    assert settings.parts(4_000) == 3
    assert settings.parts(100) == 4
    assert SelectionSettings(pseudo_cold=0.2).parts(100) == 2
    assert SelectionSettings(pseudo_cold=0.4).parts(100) == 1
    assert SelectionSettings(probes=2).parts(50_000) == 2
    with pytest.raises(
        ValidationError, match=r"0\.2 of the warm items for each of 6 probes leaves none; lower it"
    ):
        SelectionSettings(probes=3, pseudo_cold=0.2)


def test_without_users_of_both_kinds_nothing_is_transferred(made_up) -> None:
    probe = made_up(True, 0)
    warm = probe.users.take(np.flatnonzero(np.asarray(probe.users.targets) <= probe.num_warm))
    choice = choose(replace(probe, users=warm), probe)
    assert choice.transfer is None
    assert choice.tried == choice.verdicts == ()
    assert "no validation user" in choice.reason
    with pytest.raises(ValueError, match="needs probes"):
        select_transfer([], QUICK)
