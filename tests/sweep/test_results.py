import numpy as np
import pytest

from coldray.errors import UserError
from coldray.sweep.results import with_test_users


def test_users_with_a_cold_target_are_drawn_once(tiny_split):
    assert with_test_users(tiny_split, None) is tiny_split
    few = with_test_users(tiny_split, 10).test
    assert len(few) == 10
    assert (np.asarray(few.targets) > tiny_split.num_warm).all()
    assert few.users.equals(with_test_users(tiny_split, 10).test.users)
    assert len(with_test_users(tiny_split, 10_000).test) == (np.asarray(tiny_split.test.targets) > 40).sum()


def test_without_one_it_is_refused(tiny_split):
    from dataclasses import replace

    warm = replace(tiny_split, test=tiny_split.test.take(np.flatnonzero(tiny_split.test.targets <= 40)))
    with pytest.raises(UserError, match="no test user has a cold target"):
        with_test_users(warm, 5)
