import numpy as np
import pytest

from coldray.graph.store.similar import BANDS, bands_of, canonical, cosines_of, kind_of, sharing


@pytest.fixture(scope="module")
def vectors():
    """300 vectors [300, 32] of length 1, the last 100 of them each near one of the first."""
    random = np.random.default_rng(0)
    made = random.normal(size=(200, 32))
    near = made[:100] + 0.02 * random.normal(size=(100, 32))
    made = np.concatenate([made, near]).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def close(vectors, bands, above):
    """Return the pairs of rows that share a band and are close."""
    order = np.argsort(bands, axis=None, kind="stable")
    each = np.repeat(np.arange(len(bands)), BANDS)
    rows, others = sharing(bands.ravel()[order], order // BANDS, bands.ravel(), each)
    near = cosines_of(vectors[rows], vectors[others]) >= above
    return {(a, b) for a, b in zip(rows[near].tolist(), others[near].tolist(), strict=True) if a < b}


def test_pairs_are_those_that_comparing_all_finds(vectors):
    found = close(vectors, bands_of(["feature"] * 300, vectors), 0.97)
    wanted = {(a, b) for a, b in zip(*np.nonzero(vectors @ vectors.T >= 0.97), strict=True) if a < b}
    assert len(wanted) > 90
    assert found <= wanted
    assert len(found) >= 0.98 * len(wanted)


def test_a_pair_comes_once_and_only_if_it_shares_a_band():
    flat, of = (
        np.array([1, 1, 2, 3, 4, 4]),
        np.array([0, 2, 0, 1, 1, 2]),
    )  # bands of three, [1, 2], [3, 4] and [1, 4]
    rows, entities = sharing(flat, of, np.array([1, 2, 4, 9]), np.array([70, 70, 80, 90]))
    assert list(zip(rows, entities, strict=True)) == [(0, 70), (1, 80), (2, 70), (2, 80)]
    assert len(sharing(flat, of, np.zeros(0, np.int64), np.zeros(0, np.int64))[0]) == 0


def test_a_cosine_is_the_same_from_either_side(vectors):
    one, other = vectors[:150], vectors[150:]
    assert (cosines_of(one, other) == cosines_of(other, one)).all()
    assert (cosines_of(one[7:9], other[7:9]) == cosines_of(one, other)[7:9]).all()


def test_types_stay_apart(vectors):
    twice = np.repeat(vectors[:1], 2, axis=0)
    assert close(twice, bands_of(["a", "a"], twice), 0.9) == {(0, 1)}
    assert close(twice, bands_of(["a", "b"], twice), 0.9) == set()


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
