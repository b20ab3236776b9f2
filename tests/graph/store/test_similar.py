import numpy as np
import pytest

from coldray.graph.store.similar import BANDS, bands_of, canonical, close_pairs, kind_of

NONE = (np.zeros(0, np.int64), np.zeros((0, 32), np.float32), np.zeros((0, BANDS), np.int64))


@pytest.fixture(scope="module")
def vectors():
    """300 vectors [300, 32] of length 1, the last 100 of them each near one of the first."""
    random = np.random.default_rng(0)
    made = random.normal(size=(200, 32))
    near = made[:100] + 0.02 * random.normal(size=(100, 32))
    made = np.concatenate([made, near]).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_pairs_are_those_that_comparing_all_finds(vectors):
    ids = np.arange(300) * 7
    bands = bands_of(["feature"] * 300, vectors)
    found = {(a // 7, b // 7) for a, b, _ in close_pairs(ids, vectors, bands, NONE, 0.97)}
    wanted = {(a, b) for a, b in zip(*np.nonzero(vectors @ vectors.T >= 0.97), strict=True) if a < b}
    assert len(wanted) > 90
    assert found <= wanted
    assert len(found) >= 0.98 * len(wanted)


def test_pairs_do_not_depend_on_who_came_first(vectors):
    ids, bands = np.arange(300), bands_of(["feature"] * 300, vectors)
    at_once = close_pairs(ids, vectors, bands, NONE, 0.97)
    old, new = slice(0, 150), slice(150, 300)
    later = close_pairs(ids[old], vectors[old], bands[old], NONE, 0.97)
    later += close_pairs(ids[new], vectors[new], bands[new], (ids[old], vectors[old], bands[old]), 0.97)
    assert [pair[:2] for pair in sorted(later)] == [pair[:2] for pair in at_once]


def test_types_stay_apart(vectors):
    twice = np.repeat(vectors[:1], 2, axis=0)
    assert len(close_pairs(np.arange(2), twice, bands_of(["a", "a"], twice), NONE, 0.9)) == 1
    assert close_pairs(np.arange(2), twice, bands_of(["a", "b"], twice), NONE, 0.9) == []


def test_the_most_mentioned_stands_for_all():
    ids, mentions = np.array([10, 20, 30, 40, 50]), np.array([1, 3, 3, 1, 9])
    pairs = np.array([[0, 1], [1, 2]])
    assert canonical(ids, mentions, pairs).tolist() == [1, 1, 1, 3, 4]
    assert canonical(ids, mentions, pairs[:0]).tolist() == [0, 1, 2, 3, 4]


def test_numbers_tell_names_apart():
    pens = [{"type": "feature", "name": name} for name in ("0.5 mm", "0.7 mm", "of 0.5 mm", "5")]
    assert kind_of(pens[0]) == kind_of(pens[2])
    assert len({kind_of(pen) for pen in pens}) == 3
    assert kind_of({"type": "genre", "name": "0.5 mm"}) != kind_of(pens[0])
