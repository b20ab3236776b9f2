"""Transfers measured on made-up data: who is counted, where neighbours are looked for, what an exposure does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coldray.evaluation import evaluate, ndcg
from coldray.evaluation.ranking import exposure_of_cold, exposure_offsets
from coldray.models.scorers import SASRecScorer
from coldray.transfer import Modality, TransferSettings
from coldray.transfer.judge import Judge, Panel

TASTES = 20
"""of the made-up items, which take turns in them"""


def test_users_are_counted_and_bounded_by_kind(made_up) -> None:
    probe = made_up(True, 0)
    whole = Judge(probe, 10_000, seed=0)
    cold = int((np.asarray(probe.users.targets) > probe.num_warm).sum())
    assert whole.sizes == (cold, len(probe.users) - cold)
    few = Judge(probe, 50, seed=0)
    assert few.sizes == (50, 50)
    assert [part.shape for part in few.gains(None)] == [(1, 50), (1, 50)]


def test_gains_are_tested_by_item(made_up) -> None:
    judge = Judge(made_up(True, 0), 10_000, seed=0)
    targets = np.asarray(judge.users.targets)[judge.is_cold]
    sums = judge.by_item(np.ones(len(targets)))
    assert sums.tolist() == [int((targets == item).sum()) for item in np.unique(targets)]


def test_neighbours_are_looked_for_in_the_space_that_is_asked_for(made_up) -> None:
    probe = made_up(True, 0)
    noise = np.random.default_rng(5).normal(size=probe.content.shape).astype(np.float32)
    judge = Judge(replace(probe, content=noise), 10_000, seed=0)
    own = np.arange(probe.num_warm, len(probe.content) - 1) % TASTES
    tastes = probe.residuals[1 : TASTES + 1]
    right = {}
    for space in ("item_vectors", "embedding"):
        given = judge.residuals(TransferSettings(k=3, space=space))
        right[space] = (np.argmax(given @ tastes.T, axis=1) == own).mean()
    assert right["embedding"] > 0.9
    assert right["item_vectors"] < 0.5


@pytest.mark.parametrize("settings", [None, TransferSettings(k=3, rescale=True)])
def test_gains_are_those_of_ranking_everything_with_the_offset_of_the_exposure(settings, made_up) -> None:
    probe = made_up(True, 0)
    items = probe.users.items.copy()
    items[::6] = np.where(np.asarray(probe.users.targets)[::3] == probe.num_warm + 1, 1, probe.num_warm + 1)
    probe = replace(probe, users=replace(probe.users, items=items))  # a third have had a cold item
    judge, first = Judge(probe, 10_000, seed=0), probe.num_warm + 1
    assert 0.2 * len(probe.users) < len(judge.moving) < 0.4 * len(probe.users)
    times = [None, 0.5, 1.0, 3.0]
    residuals = None if settings is None else judge.residuals(settings)
    cold, warm = judge.gains(residuals, times)
    plain = torch.from_numpy(probe.content + probe.residuals)
    table = plain.clone()
    if residuals is not None:
        table[first:] += torch.from_numpy(residuals)
    scorer = SASRecScorer(probe.encoder, table)
    natural = exposure_of_cold(SASRecScorer(probe.encoder, plain), probe.known, probe.num_warm)
    assert judge.exposure == natural
    shares = [natural * item for item in times if item is not None]
    for place, offset in enumerate([0.0, *exposure_offsets(scorer, probe.known, probe.num_warm, shares)]):
        bias = torch.zeros(len(table))
        bias[first:] = offset
        ranks = evaluate(SASRecScorer(probe.encoder, table, bias), judge.users, probe.num_warm).rank_all_kept
        gains = ndcg(ranks)
        # A place is decided by scores that differ by the last bit where the offset is that at which two meet.
        assert np.mean(cold[place] != gains[judge.is_cold]) < 0.005
        assert np.mean(warm[place] != gains[~judge.is_cold]) < 0.005


def test_more_exposure_helps_cold_items_and_costs_warm_ones(made_up) -> None:
    judge = Judge(made_up(True, 0), 10_000, seed=0)
    cold, warm = judge.gains(judge.residuals(TransferSettings(k=5)), [1.0, 4.0, 32.0])
    assert (np.diff(cold.mean(axis=1)) > 0).all()
    assert warm[2].mean() < warm[0].mean()


def test_a_panel_is_its_judges_side_by_side(made_up) -> None:
    probes = [made_up(True, 0), made_up(True, 1)]
    panel, settings = Panel(probes, 200, seed=0), TransferSettings(k=5)
    alone = [Judge(probe, 200, seed=0) for probe in probes]
    cold, warm = panel.gains(settings, [None, 2.0])
    parts = [judge.gains(judge.residuals(settings), [None, 2.0]) for judge in alone]
    assert np.array_equal(cold, np.concatenate([part[0] for part in parts], axis=1))
    assert np.array_equal(warm, np.concatenate([part[1] for part in parts], axis=1))
    assert panel.sizes == (400, 400)
    by_item = np.concatenate([judge.by_item(part[0][0]) for judge, part in zip(alone, parts, strict=True)])
    assert np.array_equal(panel.by_item(cold[0]), by_item)


def test_users_may_all_have_had_cold_items(made_up) -> None:
    probe = made_up(True, 0)
    items = probe.users.items.copy()
    items[::2] = np.where(
        np.asarray(probe.users.targets) == probe.num_warm + 1, probe.num_warm + 2, probe.num_warm + 1
    )
    judge = Judge(replace(probe, users=replace(probe.users, items=items)), 100, seed=0)
    assert len(judge.moving) == len(judge.users) == 200
    cold, warm = judge.gains(judge.residuals(TransferSettings()), [None, 2.0])
    assert cold.shape == warm.shape == (2, 100)
    assert cold.mean() > 0


def test_neighbours_come_from_every_space_of_the_probe(made_up) -> None:
    probe = made_up(True, 0)
    noise = np.random.default_rng(5).normal(size=probe.content.shape).astype(np.float32)
    judge = Judge(replace(probe, embeddings={"embedding": noise, "text": probe.content}), 10_000, seed=0)
    assert Panel([judge.probe], 10, seed=0).spaces == ("item_vectors", "embedding", "text")
    given = judge.residuals(TransferSettings(k=3, space="text"))
    assert np.array_equal(given, Judge(probe, 10_000, seed=0).residuals(TransferSettings(k=3)))
    mixed = TransferSettings(k=3, space="embedding", also=(Modality(space="text"),), temperature=0.01)
    near = judge._spaces.neighbors(mixed).first(3)
    assert (near.similarities[:, 0] > 0.9).all()  # of the text: the noise has none as near
