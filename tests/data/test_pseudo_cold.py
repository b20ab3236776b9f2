import numpy as np
import pytest

from coldray.data.pseudo_cold import pseudo_cold_split
from coldray.errors import UserError


def named(split, items):
    """Return item indices of a split as ids."""
    ids = np.array(["", *split.item_ids.to_pylist()])
    return ids[np.asarray(items)]


def test_pseudo_cold_items_are_in_no_training_sequence(tiny_split) -> None:
    made = pseudo_cold_split(tiny_split, 0.2, part=0)
    assert (made.num_warm, made.num_cold) == (32, 8)
    assert made.train.items.max() <= 32
    assert made.validation.items.max() <= 32
    assert np.asarray(made.validation.targets).max() <= 32
    assert (np.asarray(made.test.targets) > 32).any()
    assert (made.test.items > 32).any()
    assert np.array_equal(made.train_counts, np.bincount(made.train.items, minlength=made.num_items + 1))


def test_nothing_of_cold_items_and_test_users_is_in_it(tiny_split) -> None:
    made = pseudo_cold_split(tiny_split, 0.2, part=1)
    warm = set(tiny_split.item_ids.to_pylist()[: tiny_split.num_warm])
    assert set(made.item_ids.to_pylist()) == warm
    assert made.test.users.equals(tiny_split.validation.users)
    assert np.array_equal(named(made, made.test.items), named(tiny_split, tiny_split.validation.items))
    assert np.array_equal(named(made, made.test.targets), named(tiny_split, tiny_split.validation.targets))


def test_sequences_keep_their_other_items_in_order(tiny_split) -> None:
    made = pseudo_cold_split(tiny_split, 0.2, part=0)
    cold = set(named(made, np.arange(33, 41)))
    for before, after in ((tiny_split.train, made.train),):
        for i in range(len(before)):
            old = named(tiny_split, before.items[before.offsets[i] : before.offsets[i + 1]])
            new = named(made, after.items[after.offsets[i] : after.offsets[i + 1]])
            assert [item for item in old if item not in cold] == new.tolist()


def test_parts_are_other_items_and_the_seed_decides(tiny_split) -> None:
    cold = [set(named(s, np.arange(33, 41))) for s in (pseudo_cold_split(tiny_split, 0.2, p) for p in (0, 1))]
    assert not cold[0] & cold[1]
    again, other = pseudo_cold_split(tiny_split, 0.2, 0), pseudo_cold_split(tiny_split, 0.2, 0, seed=1)
    assert set(named(again, np.arange(33, 41))) == cold[0] != set(named(other, np.arange(33, 41)))
    fingerprints = {pseudo_cold_split(tiny_split, 0.2, p).fingerprint for p in (0, 1)} | {other.fingerprint}
    assert len(fingerprints) == 3


def test_too_few_items_are_told(tiny_split) -> None:
    with pytest.raises(UserError, match=r"pseudo_cold: 0\.4 of 40 warm items"):
        pseudo_cold_split(tiny_split, 0.4, part=2)
