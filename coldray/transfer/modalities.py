"""Neighbours in several spaces at once: item vectors, texts, images, behaviour, each a table of vectors of the same items."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.transfer.neighbors import Float32, Float64, Index, Neighbors, nearest_warm
from coldray.transfer.residuals import Transfer, TransferSettings, propagate

WIDEST = 100
"""neighbours found at once in a space, for every K up to this one"""


class Spaces:
    """The vectors of all items in each space, and the warm neighbours of the cold items there, found once."""

    def __init__(self, vectors: Mapping[str, Float32], num_warm: int) -> None:
        """Take for each space its vectors [num_items + 1, e], row 0 the padding's, the cold items after `num_warm` warm ones.

        A vector of zeros is an item of which the space knows nothing.
        """
        self.vectors = vectors
        self.num_warm = num_warm
        self._found: dict[tuple[str, int, Index], Neighbors] = {}

    def neighbors(self, settings: TransferSettings) -> Neighbors:
        """Return the neighbours that a transfer with `settings` draws on, at least `settings.k` where there are as many.

        Raises KeyError for a space that is not there.
        """
        first = self._nearest(settings.space, settings)
        others = [(self._nearest(item.space, settings), item.scale, item.offset) for item in settings.also]
        return pooled(first, others) if others else first

    def transfer(
        self,
        residuals: npt.NDArray[Any],
        settings: TransferSettings,
        own_residuals: npt.NDArray[Any] | None = None,
    ) -> Transfer[npt.NDArray[Any]]:
        """Return what the cold items get of the warm items' `residuals` [num_warm, d]; `own_residuals` as in `propagate`."""
        cold, warm = self._parts(settings.space)
        found = self.neighbors(settings)
        return propagate(cold, warm, residuals, settings, own_residuals=own_residuals, neighbors=found)

    def _parts(self, space: str) -> tuple[Float32, Float32]:
        vectors, first = self.vectors[space], self.num_warm + 1
        return vectors[first:], vectors[1:first]

    def _nearest(self, space: str, settings: TransferSettings) -> Neighbors:
        k = min(max(settings.k, WIDEST), self.num_warm)
        key = (space, k, settings.index)
        if key not in self._found:
            self._found[key] = nearest_warm(*self._parts(space), k, settings.index)
        return self._found[key]


def pooled(first: Neighbors, others: Sequence[tuple[Neighbors, float, float]]) -> Neighbors:
    """Return the neighbours found in several spaces as one list an item, nearest first, [n_cold, sum of their k].

    `others` are (neighbours, scale, offset): a cosine s of theirs counts as 1 - offset - scale (1 - s) in terms of the
    first space's, bounded to [-1, 1]. So a softmax over the list with temperature T is one over all spaces, with
    temperature T / scale and a bias in each: which space weighs more is decided for each cold item by how near its
    neighbours there are. An item found in two spaces is in the list twice, and weighs as much as both. Where a space has a
    vector of zeros for a cold item, the neighbours there come last, at -1.
    """
    similarities = [_known(first, 1.0, 0.0), *(_known(*other) for other in others)]
    table: Float64 = np.concatenate(similarities, axis=1)
    ids = np.concatenate([first.ids, *(other[0].ids for other in others)], axis=1)
    order = np.argsort(-table, axis=1, kind="stable")
    table = np.clip(np.take_along_axis(table, order, 1), -1.0, 1.0)
    return Neighbors(np.take_along_axis(ids, order, 1), table)


def _known(found: Neighbors, scale: float, offset: float) -> Float64:
    """Return the similarities [n, k] in terms of the first space's; -inf where an item has no vector."""
    counted: Float64 = 1.0 - offset - scale * (1.0 - found.similarities.astype(np.float64))
    counted[~found.similarities.any(axis=1)] = -np.inf
    return counted
