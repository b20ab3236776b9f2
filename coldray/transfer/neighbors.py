"""The warm items nearest to each cold item by cosine similarity, found with FAISS."""

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from coldray.errors import UserError
from coldray.settings import Settings

Array = npt.NDArray[Any] | torch.Tensor
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

BATCH = 2048
# The exact search takes this many neighbours more than asked for, so that ties at the edge are seen.
_SLACK = 32
# FAISS multiplies in single precision: similarities nearer than this may stand in the wrong order.
_ROUNDING = 1e-5
_GATHER_ELEMENTS = 4_000_000
_ROWS = 65536
_COMPRESS = 10_000


class Index(Settings):
    """How neighbours are searched: `exact` sees every warm item, the others trade recall for speed."""

    kind: Literal["exact", "ivf", "hnsw"] = Field(
        default="exact",
        description="exact, or approximate: inverted lists (ivf), a graph of neighbours (hnsw)",
    )
    lists: int | None = Field(
        default=None, ge=1, description="ivf: number of lists; none: 2 sqrt(warm items)"
    )
    probes: int | None = Field(
        default=None,
        ge=1,
        description="ivf: lists read for an item, more find more; none: 32",
    )
    links: int = Field(default=32, ge=2, description="hnsw: links of an item in the graph")
    candidates: int | None = Field(
        default=None,
        ge=1,
        description="hnsw: candidates kept in a search, more find more; none: 2 k, at least 64",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: the GPU where the installed FAISS has one; hnsw stays on the CPU"
    )


EXACT = Index()


@dataclass(frozen=True)
class Neighbors:
    """The nearest warm items of each cold item, nearest first; of equal ones the lower row number first."""

    ids: Int32
    """[n_cold, k] row numbers into the warm items"""
    similarities: Floats
    """[n_cold, k] cosines, falling along a row; float64 from an exact search, float32 from the others"""

    @property
    def k(self) -> int:
        """Number of neighbours of each item."""
        return int(self.ids.shape[1])

    def first(self, k: int) -> "Neighbors":
        """Return the `k` nearest of these. Raises UserError if there are fewer."""
        if k > self.k:
            raise UserError(f"k: {k} neighbours are asked for, {self.k} were found; search again with k={k}")
        return Neighbors(self.ids[:, :k], self.similarities[:, :k])


def host(array: Array) -> npt.NDArray[Any]:
    """Return `array` as a NumPy array: float64 where it was, else float32; without a copy where possible."""
    if isinstance(array, torch.Tensor):
        array = array.detach()
        array = array.cpu() if array.dtype == torch.float64 else array.to("cpu", torch.float32)
        return array.numpy()
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def check_rows(name: str, array: npt.NDArray[Any]) -> None:
    """Raise UserError unless `array` is a matrix of finite numbers; the message names `name` and the row."""
    if array.ndim != 2:
        raise UserError(f"{name}: has shape {list(array.shape)}; give a matrix, one row for an item")
    for start in range(0, len(array), _ROWS):
        finite = np.isfinite(array[start : start + _ROWS]).all(axis=1)
        if not finite.all():
            row = start + int(np.flatnonzero(~finite)[0])
            raise UserError(f"{name}: row {row} holds NaN or infinity; give finite numbers")


def nearest_warm(
    cold: Array, warm: Array, k: int, index: Index = EXACT, *, batch_size: int = BATCH
) -> Neighbors:
    """Return the `k` warm items nearest to each cold item by cosine similarity (paper, equation 3).

    `cold` is [n_cold, d], `warm` [n_warm, d], NumPy or Torch, of any length: they are normalised here, and
    a zero vector has similarity 0 to everything. Found once with the largest k, `Neighbors.first` serves
    the smaller ones; after an exact search that equals a search of its own. k above n_warm is clamped with
    a warning. `batch_size` cold items are searched at a time. Raises UserError for NaN, no warm items,
    shapes that do not match, or a GPU asked for that FAISS has not.
    """
    cold, warm = host(cold), host(warm)
    check_rows("cold", cold)
    check_rows("warm", warm)
    if k < 1:
        raise UserError(f"k: is {k}; ask for at least one neighbour")
    if not len(warm):
        raise UserError("warm: has no rows; residuals can only be transferred from warm items")
    if cold.shape[1] != warm.shape[1]:
        sizes = f"{cold.shape[1]} columns and warm {warm.shape[1]}"
        raise UserError(f"cold: has {sizes}; both need the same embedding")
    if k > len(warm):
        message = f"k = {k} is above the number of warm items; {len(warm)} neighbours are used"
        warnings.warn(message, stacklevel=2)
        k = len(warm)
    return WarmIndex(warm, k, index).nearest(cold, batch_size)


class WarmIndex:
    """A FAISS index over warm items [n_warm, d], and what makes its answers whole and deterministic.

    `nearest_warm` checks the input and is what to call; this is for building once and searching often.
    """

    def __init__(self, warm: npt.NDArray[Any], k: int, index: Index = EXACT) -> None:
        self.warm, self.k = warm, k
        self.exact = index.kind == "exact"
        self.width = min(k + _SLACK, len(warm)) if self.exact else k
        self.index = _build(warm, index, k)

    def nearest(self, cold: npt.NDArray[Any], batch_size: int = BATCH) -> Neighbors:
        """Return the k nearest warm items of each row of `cold` [n_cold, d], `batch_size` rows at a time."""
        shape = (len(cold), self.k)
        ids = np.empty(shape, np.int32)
        similarities: Floats = np.empty(shape, np.float64) if self.exact else np.empty(shape, np.float32)
        for start in range(0, len(cold), batch_size):
            part = slice(start, start + batch_size)
            ids[part], similarities[part] = self._batch(cold[part])
        return Neighbors(ids, similarities)

    def _batch(self, cold: npt.NDArray[Any]) -> tuple[Int64, Floats]:
        """Return row numbers [n, k] into the warm items and similarities [n, k] for the rows of `cold`."""
        unit = _unit(cold)
        near, ids = self.index.search(unit, self.width)
        if self.exact:
            similarities, ids = _refine(cold, self.warm, ids, self.k)
            # Where the last one taken is as near as the k-th, more of the same may have been left out.
            again = (near[:, self.k - 1] - near[:, -1] <= _ROUNDING) & (self.width < len(self.warm))
        else:
            order = np.lexsort((ids, -near))
            similarities, ids = np.take_along_axis(near, order, 1), np.take_along_axis(ids, order, 1)
            # -1: the lists that were read, or the graph, held fewer than k items.
            again = (ids < 0).any(axis=1)
        zero = ~cold.any(axis=1)
        for row in np.flatnonzero(again & ~zero):
            similarities[row], ids[row] = self._all(cold[row], unit[row])
        similarities[zero], ids[zero] = 0.0, np.arange(self.k)
        return ids, similarities

    def _all(self, cold: npt.NDArray[Any], unit: Float32) -> tuple[Float64, Int64]:
        """Return similarities [k] and row numbers [k] of one item, compared with every warm item."""
        blocks = [_unit(self.warm[start : start + _ROWS]) @ unit for start in range(0, len(self.warm), _ROWS)]
        near = np.concatenate(blocks)
        least = np.partition(near, len(near) - self.k)[len(near) - self.k]
        candidates = np.flatnonzero(near >= least - _ROUNDING)
        similarities, ids = _refine(cold[None], self.warm, candidates[None], self.k)
        return similarities[0], ids[0]


def _unit(rows: npt.NDArray[Any]) -> Float32:
    """Return `rows` [n, d] normalised to length 1 in float32; rows of zeros stay so."""
    return np.ascontiguousarray(rows * _inverse_norms(rows)[:, None], dtype=np.float32)


def _inverse_norms(rows: npt.NDArray[Any]) -> Float64:
    """Return 1 over the L2 norm of each row, [n] float64; 0 for rows of zeros."""
    norms: Float64 = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)


def _refine(cold: npt.NDArray[Any], warm: npt.NDArray[Any], ids: Int64, k: int) -> tuple[Float64, Int64]:
    """Return similarities [n, k] and row numbers [n, k] of the `k` nearest of the candidates `ids` [n, w].

    In double precision, and the same pair always gives the same number, whatever batch it is in: equal
    items tie, and the lower row number comes first.
    """
    columns = max(1, _GATHER_ELEMENTS // max(1, cold.shape[1]))
    rows = max(1, columns // ids.shape[1])
    similarities = np.empty(ids.shape)
    for row in range(0, len(ids), rows):
        query = cold[row : row + rows].astype(np.float64)
        query *= _inverse_norms(query)[:, None]
        for column in range(0, ids.shape[1], columns):
            block = np.s_[row : row + rows, column : column + columns]
            gathered = warm[ids[block]].astype(np.float64)
            products = np.einsum("nwd,nd->nw", gathered, query)
            inverse = _inverse_norms(gathered.reshape(-1, gathered.shape[2]))
            similarities[block] = products * inverse.reshape(products.shape)
    order = np.lexsort((ids, -similarities))[:, :k]
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(ids, order, 1)


def _build(warm: npt.NDArray[Any], index: Index, k: int) -> Any:
    """Return the FAISS index over the normalised rows of `warm`, on the device asked for."""
    number, size = warm.shape
    built: Any
    if index.kind == "ivf":
        built = _inverted_lists(number, size, index)
    elif index.kind == "hnsw":
        built = faiss.IndexHNSWFlat(size, index.links, faiss.METRIC_INNER_PRODUCT)
        built.hnsw.efSearch = max(index.candidates or max(2 * k, 64), k)
    else:
        built = faiss.IndexFlatIP(size)
    if _use_gpu(index):
        built = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, built)
    if not built.is_trained:
        # An even stride: the sample, and with it the answer, is the same on every run.
        built.train(_unit(warm[:: max(1, number // (_lists(number, index) * 40))]))
    for start in range(0, number, _ROWS):
        built.add(_unit(warm[start : start + _ROWS]))
    return built


def _lists(number: int, index: Index) -> int:
    """Return the number of inverted lists for `number` items."""
    return min(index.lists or max(1, int(2 * math.sqrt(number))), number)


def _inverted_lists(number: int, size: int, index: Index) -> Any:
    """Return an empty index of inverted lists for `number` items of `size` columns.

    On a CPU larger catalogues are scanned as 4-bit codes, several times faster, and the best are compared
    again in full: the similarities that come out are exact either way.
    """
    lists = _lists(number, index)
    probes = min(index.probes or 32, lists)
    built: Any
    if number < _COMPRESS or _use_gpu(index):
        built = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, lists, faiss.METRIC_INNER_PRODUCT)
        built.nprobe = probes
        built.cp.min_points_per_centroid = 1  # small catalogues are allowed
        return built
    codes = size // 2 if size % 2 == 0 else size
    built = faiss.index_factory(size, f"IVF{lists},PQ{codes}x4fsr,RFlat", faiss.METRIC_INNER_PRODUCT)
    built.k_factor = 4
    faiss.extract_index_ivf(built).nprobe = probes
    faiss.extract_index_ivf(built).cp.min_points_per_centroid = 1
    return built


def _use_gpu(index: Index) -> bool:
    """Return whether the settings ask for a GPU that is there. Raises UserError if it is asked for and not."""
    has_gpu = faiss.get_num_gpus() > 0
    if index.device == "cuda" and not has_gpu:
        raise UserError("device: this FAISS has no GPU; install faiss-gpu in place of faiss-cpu, or take cpu")
    return bool(has_gpu and index.device != "cpu" and index.kind != "hnsw")
