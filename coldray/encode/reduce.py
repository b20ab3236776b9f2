"""From raw embeddings to item vectors: scaling and PCA learned on warm items, then length 1."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldray.errors import UserError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_BATCH = 16384
# Mean, scale and principal directions do not change visibly beyond this many items, and memory stays bounded.
_FIT_ROWS = 200_000


@dataclass(frozen=True)
class Reducer:
    """A map from raw embeddings of size r to unit vectors of size d: scaled, projected, normalised."""

    mean: Float64
    """[r]"""
    projection: Float64 | None
    """[r, d], the scaling within; None where r equals d and vectors are only normalised"""

    def apply(self, raw: Float32) -> Float32:
        """Return `raw` [n, r] reduced, [n, d] float32 of length 1. Rows of zeros (no content) stay zeros."""
        if raw.shape[1] != len(self.mean):
            raise UserError(
                f"embedding: has {raw.shape[1]} columns; the reduction was fitted on {len(self.mean)}"
            )
        size = raw.shape[1] if self.projection is None else self.projection.shape[1]
        reduced = np.empty((len(raw), size), np.float32)
        for start in range(0, len(raw), _BATCH):
            rows = raw[start : start + _BATCH].astype(np.float64)
            zero = ~rows.any(axis=1)
            if self.projection is not None:
                rows = (rows - self.mean) @ self.projection
            norms = np.linalg.norm(rows, axis=1)
            norms[norms == 0] = 1.0
            rows /= norms[:, None]
            rows[zero] = 0.0
            reduced[start : start + _BATCH] = rows
        return reduced


def fit_reducer(raw_warm: Float32, d: int) -> Reducer:
    """Return the reduction to `d` columns learned on the raw embeddings of warm items, [w, r].

    Standard scaling and PCA; none of both where r equals d. The same input gives the same result, signs
    included. Items without content (zero rows) are left out; of more than 200,000 items an even sample is
    used. Raises UserError if d is above r or above the number of warm items.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - a second, which no other use of the package needs
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - likewise

    size = raw_warm.shape[1]
    if size == d:
        return Reducer(np.zeros(size), None)
    if d > size:
        raise UserError(f"d: {d} is above the {size} columns of the embedding; choose d of at most {size}")
    content = np.flatnonzero(raw_warm.any(axis=1))
    if d > len(content):
        raise UserError(f"d: {d} is above the {len(content)} warm items with content; choose a smaller d")
    chosen = content[:: -(-len(content) // _FIT_ROWS)]
    scaler = StandardScaler()
    scaled = scaler.fit_transform(raw_warm[chosen].astype(np.float64))
    pca = PCA(n_components=d, svd_solver="covariance_eigh").fit(scaled)
    # PCA takes the mean of the scaled rows away, which is zero but for rounding.
    projection: Float64 = pca.components_.T / scaler.scale_[:, None]
    return Reducer(scaler.mean_, projection)


def item_vectors(embedding: Float32, num_warm: int, d: int) -> Float32:
    """Return the frozen item vectors e0 of an embedding [num_items + 1, e], [num_items + 1, d] float32.

    Row i is the item of index i, the warm ones first; row 0 (padding) is zero. The reduction is learned on the warm
    items. Raises UserError if the embedding cannot be reduced to d.
    """
    vectors = np.zeros((len(embedding), d), np.float32)
    vectors[1:] = fit_reducer(embedding[1 : num_warm + 1], d).apply(embedding[1:])
    return vectors
