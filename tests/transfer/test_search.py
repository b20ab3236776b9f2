"""What a search draws: the paper's settings first, and neighbours of one modality with others or without."""

import optuna

from coldray.transfer import TransferSettings
from coldray.transfer.search import first_trial, suggest

SPACES = ("item_vectors", "embedding", "image", "text")


def drawn(spaces, number):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.enqueue_trial(first_trial(spaces))
    for _ in range(number):
        trial = study.ask()
        yield suggest(trial, 50, spaces)
        study.tell(trial, 0.0)


def test_the_papers_settings_come_first() -> None:
    for spaces in (SPACES[:2], SPACES):
        assert next(drawn(spaces, 1)) == TransferSettings()


def test_every_modality_is_tried_alone_and_with_others() -> None:
    found = list(drawn(SPACES, 200))
    assert {made.space for made in found} == set(SPACES)
    assert {len(made.also) for made in found} == {0, 1, 2}
    for made in found:
        assert 1 <= made.k <= 50
        there = [made.space, *(item.space for item in made.also)]
        assert not {"item_vectors", "embedding"} <= set(there)  # one modality, before and after its reduction
    assert all(not made.also for made in drawn(SPACES[:2], 50))
