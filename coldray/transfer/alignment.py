"""How well the neighbourhoods of item vectors predict those of residuals: whether there is something to transfer."""

import numpy as np
import numpy.typing as npt

from coldray.transfer.neighbors import Index, nearest_warm


def alignment(
    vectors: npt.NDArray[np.float32],
    residuals: npt.NDArray[np.float32],
    k: int = 10,
    index: Index | None = None,
) -> float:
    """Return the mean cosine of each item's residual and the mean residual of its `k` nearest other items.

    `vectors` [n, e] and `residuals` [n, d] are those of warm items, who have both. What all residuals have in common is
    taken from them first, so that about 0 means that neighbours say nothing of a residual, and 1 that they say all.
    Residuals are normalised, so that a popular item counts no more than another; nan where no item has one.
    """
    n = len(vectors)
    if n < 2:
        return float("nan")
    near = nearest_warm(vectors, vectors, min(k + 1, n), index or Index()).ids
    others = near != np.arange(n)[:, None]
    others[others.all(axis=1), -1] = False  # among equal vectors an item need not be its own nearest
    units = _units(_units(residuals) - _units(residuals).mean(axis=0))
    means = _units(np.einsum("nkd,nk->nd", units[near], others.astype(np.float32)))
    known = (units != 0).any(axis=1)
    return float((units * means).sum(axis=1)[known].mean()) if known.any() else float("nan")


def _units(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: npt.NDArray[np.float32] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units
