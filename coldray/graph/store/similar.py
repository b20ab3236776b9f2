"""Entities of one type whose names are nearly the same, found without comparing all with all.

Names are embedded, and each vector is cut by random hyperplanes into bands of signs (locality-sensitive hashing; Charikar,
2002). Two names are compared where they share a whole band. Whether they do depends on these two alone, so the pairs found
are the same in whatever order entities came; the price is that of pairs just above the threshold some are missed.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BANDS, BITS = 16, 18
"""of 100 pairs with a cosine of 0.95 these find 92, with 0.98 more than 99"""

_NUMBER = re.compile(r"\d+")

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def kind_of(row: dict[str, Any]) -> str:
    """Return what has to be the same of entities that are one: their type, and the numbers in their names.

    To a sentence model 0.5 mm is nearly 0.7 mm, and a cartridge is the next one in the list.
    """
    return "\0".join([row["type"], *_NUMBER.findall(row["name"])])


def bands_of(kinds: Sequence[str], vectors: Float32) -> Int64:
    """Return the bands [n, BANDS] of entities of `kinds` [n] with name vectors [n, d]: numbers, of which two share one
    only if their entities have kind and all the signs of that band in common (but for chance)."""
    planes = np.random.default_rng(0).normal(size=(vectors.shape[1], BANDS * BITS)).astype(np.float32)
    signs = (vectors @ planes > 0).reshape(len(vectors), BANDS, BITS)
    codes: Int64 = signs @ (1 << np.arange(BITS, dtype=np.int64)) + (np.arange(BANDS, dtype=np.int64) << BITS)
    salts = {
        kind: int.from_bytes(hashlib.sha256(kind.encode()).digest()[:5], "little") for kind in set(kinds)
    }
    salt = np.array([salts[kind] for kind in kinds], np.int64)
    return codes + (salt << (BITS + 6))[:, None]


def sharing(flat: Int64, rows: Int64, found: Int64, entities: Int64) -> tuple[Int64, Int64]:
    """Return who shares a band: some of `rows` [k], whose bands are `flat` [k], ascending; and, of each, one of `entities`
    [m], whose bands are `found` [m]. A pair comes once, however many bands it shares.
    """
    first, last = np.searchsorted(flat, found, "left"), np.searchsorted(flat, found, "right")
    counts = last - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    one, other = rows[np.repeat(first, counts) + within], np.repeat(entities, counts)
    order = np.lexsort((other, one))
    one, other = one[order], other[order]
    new = np.ones(len(one), np.bool_)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return one[new], other[new]


def cosines_of(one: Float32, other: Float32) -> Float32:
    """Return the cosines [n] of vectors of length 1, [n, d] each; the same bits whichever of two comes first."""
    made: Float32 = (one * other).sum(axis=1)
    return made


def canonical(ids: Int64, mentions: Int64, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each entity [n] the position of the one that stands for it.

    `ids` [n] ascending, `mentions` [n], `pairs` [p, 2] positions of entities that are one. Of those that pairs connect the
    most mentioned stands for all, of equals the one with the smallest id.
    """
    from scipy.sparse import coo_array  # noqa: PLC0415 - seconds that only large graphs repay
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - likewise

    if not len(pairs):
        return np.arange(len(ids))
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(ids), len(ids)))
    _, group = connected_components(links, directed=False)
    order = np.lexsort((ids, -mentions, group))
    first = np.flatnonzero(np.r_[True, group[order][1:] != group[order][:-1]])
    leader = np.empty(len(first), np.int64)
    leader[group[order][first]] = order[first]
    stands: Int64 = leader[group]
    return stands
