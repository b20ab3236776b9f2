"""Gated transfer of residuals from warm items to cold ones (paper, equations 3 to 11)."""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Self, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError, model_validator
from scipy.sparse import csr_array

from coldray.errors import UserError
from coldray.settings import Settings, explain
from coldray.transfer.gate import Finite, Gate, gate_values, softmax_weights
from coldray.transfer.neighbors import BATCH, Array, Index, Neighbors, check_rows, host, nearest_warm

A = TypeVar("A", npt.NDArray[Any], torch.Tensor)
Matrix = npt.NDArray[Any]


Space = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Modality(Settings):
    """A further space in which neighbours are looked for, and how its cosines compare with those of the first."""

    space: Space = Field(description="name of the space")
    scale: Finite = Field(
        default=1.0,
        gt=0,
        description="a cosine s there counts as 1 - offset - scale (1 - s) in the first space",
    )
    offset: Finite = Field(default=0.0, ge=0, description="see scale; what even equal vectors are short of 1")


class TransferSettings(Settings):
    """Everything a transfer depends on besides its arrays. The defaults are the paper's."""

    k: int = Field(
        default=10, ge=1, description="warm neighbours of a cold item; clamped to the number of warm items"
    )
    temperature: Finite = Field(
        default=0.07, gt=0, description="of the softmax over similarities; small: the nearest decides"
    )
    gate: Gate | None = Field(
        default=Gate(), description="how far the transferred residual is taken over; none: fully"
    )
    alpha: Finite = Field(default=1.0, description="scale of the transferred residual")
    rescale: bool = Field(
        default=False,
        description="give the average of residuals, which is shorter than they are, their own mean length",
    )
    exposure: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="places among users' first ten that cold items get, by an offset of their scores, as a multiple of those "
        "that they have without transfer (at least a tenth of their share of the catalogue); none: no offset",
    )
    max_norm: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="bound of a result's L2 norm; none: unbounded"
    )
    space: Space = Field(
        default="item_vectors",
        description="in which a sweep looks for neighbours: item_vectors, the vectors e0; embedding, what they were reduced "
        "from; or one of its modalities",
    )
    also: tuple[Modality, ...] = Field(
        default=(),
        description="further spaces of a sweep whose neighbours enter the same softmax; K counts the neighbours of all",
    )
    index: Index = Field(default=Index(), description="how neighbours are searched")
    batch_size: int = Field(
        default=BATCH, ge=1, description="cold items worked on at a time; bounds memory only"
    )

    @model_validator(mode="after")
    def _spaces_differ(self) -> Self:
        names = [self.space, *(item.space for item in self.also)]
        if len(set(names)) < len(names):
            raise ValueError(f"also: {max(names, key=names.count)} is looked in twice; name it once")
        return self


DEFAULTS = TransferSettings()


@dataclass(frozen=True)
class Transfer(Generic[A]):
    """What a transfer gives cold items, as NumPy or Torch like the warm residuals it was made of."""

    residuals: A
    """[n_cold, d] final residuals, in the dtype of the warm residuals"""
    gate: A
    """[n_cold] share of the transferred residual, in [0, 1]; float64 where the residuals are, else float32"""
    neighbors: A
    """[n_cold, k] int32 row numbers into the warm items, nearest first"""
    similarities: A
    """[n_cold, k] cosines of the neighbours; dtype as of `gate`"""
    weights: A
    """[n_cold, k] softmax weights of the neighbours, summing to 1; dtype as of `gate`"""


class TransferOptions(TypedDict, total=False):
    """The fields of `TransferSettings` as keywords; those not given have its defaults."""

    k: int
    temperature: float
    gate: Gate | None
    alpha: float
    rescale: bool
    max_norm: float | None
    index: Index
    batch_size: int


def transfer_residuals(
    cold: A,
    warm: A,
    warm_residuals: A,
    *,
    own_residuals: A | None = None,
    neighbors: Neighbors | None = None,
    **options: Unpack[TransferOptions],
) -> Transfer[A]:
    """Return what `propagate` returns, its settings given as keywords.

    They are k (10), temperature (0.07), gate (`Gate()`; None switches it off), alpha (1.0), rescale (False), max_norm
    (None), index (exact) and batch_size (2048). Raises UserError as `propagate` does, and for a setting that is
    unknown or out of its range.
    """
    try:
        settings = TransferSettings.model_validate(options)
    except ValidationError as error:
        raise UserError(explain(error)) from error
    return propagate(cold, warm, warm_residuals, settings, own_residuals=own_residuals, neighbors=neighbors)


def propagate(
    cold: A,
    warm: A,
    warm_residuals: A,
    settings: TransferSettings = DEFAULTS,
    *,
    own_residuals: A | None = None,
    neighbors: Neighbors | None = None,
) -> Transfer[A]:
    """Return the residuals of cold items made of those of their nearest warm items.

    `cold` [n_cold, e] and `warm` [n_warm, e] are the frozen embeddings e0, of any length; `warm_residuals`
    [n_warm, d] and `own_residuals` [n_cold, d], zero if not given, are the trained residuals D. With s the
    cosines to the k nearest warm items:

        weights = softmax(s / T),  transferred = sum of weights * warm residuals,
        g = clip(sigmoid(beta (m - tau)), g_min, g_max), 0 where max s < hard_min_sim,
        final = g * alpha * transferred + (1 - g) * own, each row then bounded to norm `max_norm`.

    With `rescale` the transferred residual first gets the length sum of weights * |warm residuals|: what many have in
    common is shorter than each of them, and a cold item with a short residual is out-scored by warm ones.

    `neighbors`, from `nearest_warm` with at least k, saves the search; their first k are used. Besides the
    arrays in and out no more than a batch of residuals is held. Raises UserError for NaN, no warm items,
    and shapes that do not match.
    """
    own = None if own_residuals is None else host(own_residuals)
    residuals = host(warm_residuals)
    _check(len(cold), len(warm), residuals, own)
    if neighbors is None:
        neighbors = nearest_warm(cold, warm, settings.k, settings.index, batch_size=settings.batch_size)
    neighbors = neighbors.first(min(settings.k, len(warm)))
    _check_neighbors(neighbors, len(cold), len(warm))
    final = np.empty((len(cold), residuals.shape[1]), residuals.dtype)
    gates = np.empty(len(cold), residuals.dtype)
    weights = np.empty(neighbors.ids.shape, residuals.dtype)
    lengths = _norms(residuals)
    for start in range(0, len(cold), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        near = neighbors.similarities[part].astype(np.float64)
        exact_weights = softmax_weights(near, settings.temperature)
        exact_gates = gate_values(near, exact_weights, settings.gate)
        gates[part], weights[part] = exact_gates, exact_weights
        mixed = _weighted_sums(neighbors.ids[part], weights[part], residuals)
        if settings.rescale:
            mixed = _with_lengths(mixed, (weights[part] * lengths[neighbors.ids[part]]).sum(axis=1))
        mixed *= (settings.alpha * exact_gates).astype(residuals.dtype)[:, None]
        if own is not None:
            mixed += (1.0 - exact_gates).astype(residuals.dtype)[:, None] * own[part]
        final[part] = mixed if settings.max_norm is None else _bounded(mixed, settings.max_norm)
    return Transfer(
        _like(final, warm_residuals, keep_dtype=True),
        _like(gates, warm_residuals),
        _like(np.ascontiguousarray(neighbors.ids), warm_residuals),
        _like(neighbors.similarities.astype(residuals.dtype, copy=False), warm_residuals),
        _like(weights, warm_residuals),
    )


def _check(num_cold: int, num_warm: int, residuals: Matrix, own: Matrix | None) -> None:
    """Raise UserError unless the residuals are finite and of as many rows as their items."""
    check_rows("warm_residuals", residuals)
    if len(residuals) != num_warm:
        raise UserError(f"warm_residuals: has {len(residuals)} rows, warm {num_warm}; give one for each item")
    if own is None:
        return
    check_rows("own_residuals", own)
    wanted = (num_cold, residuals.shape[1])
    if own.shape != wanted:
        raise UserError(f"own_residuals: has shape {list(own.shape)}; {list(wanted)} is needed")


def _check_neighbors(neighbors: Neighbors, num_cold: int, num_warm: int) -> None:
    """Raise UserError unless the neighbours are those of as many cold items, and rows of the warm ones."""
    ids = neighbors.ids
    if len(ids) != num_cold or (ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < num_warm):
        raise UserError(f"neighbors: are not of {num_cold} cold and {num_warm} warm items; search again")


def _weighted_sums(ids: npt.NDArray[np.int32], weights: Matrix, residuals: Matrix) -> Matrix:
    """Return sum_w weights[c, w] * residuals[ids[c, w]] for each row c, [n, d]; never holds [n, k, d]."""
    count, k = ids.shape
    pointers = np.arange(0, count * k + 1, k)
    matrix = csr_array((weights.ravel(), ids.ravel(), pointers), shape=(count, len(residuals)))
    sums: Matrix = matrix @ residuals
    return sums


def _norms(rows: Matrix) -> npt.NDArray[np.float64]:
    """Return the L2 norm of each of `rows` [n, d]."""
    norms: npt.NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return norms


def _with_lengths(rows: Matrix, lengths: Matrix) -> Matrix:
    """Return `rows` [n, d] scaled to the L2 norms `lengths` [n]; rows of zeros stay so."""
    norms = _norms(rows)
    scale = np.divide(lengths, norms, out=np.zeros_like(norms), where=norms > 0)
    scaled: Matrix = rows * scale.astype(rows.dtype)[:, None]
    return scaled


def _bounded(rows: Matrix, max_norm: float) -> Matrix:
    """Return `rows` [n, d] with longer ones scaled down to L2 norm `max_norm`."""
    norms = _norms(rows)
    scale = np.divide(max_norm, norms, out=np.ones_like(norms), where=norms > max_norm)
    bounded: Matrix = rows * scale.astype(rows.dtype)[:, None]
    return bounded


def _like(array: Matrix, example: Array, *, keep_dtype: bool = False) -> Any:
    """Return `array` as NumPy or Torch, on the device of `example`, in its dtype if that is to be kept."""
    if isinstance(example, torch.Tensor):
        tensor = torch.from_numpy(array).to(example.device)
        return tensor.to(example.dtype) if keep_dtype else tensor
    return array.astype(example.dtype, copy=False) if keep_dtype else array
