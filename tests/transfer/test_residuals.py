"""Transfer against an independent reference in double precision, its properties, and its errors."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.errors import UserError
from coldray.transfer import Gate, Index, TransferSettings, nearest_warm, propagate, transfer_residuals
from coldray.transfer.residuals import TransferOptions

Rows = npt.NDArray[np.float32]


def arrays(
    seed: int, num_cold: int = 30, num_warm: int = 120, size: int = 12
) -> tuple[Rows, Rows, Rows, Rows]:
    """Cold and warm embeddings with a common direction, so that similarities spread around tau; residuals."""
    rng = np.random.default_rng(seed)
    cold = rng.normal(size=(num_cold, 8)) + rng.uniform(-1, 2, size=(num_cold, 1))
    warm = rng.normal(size=(num_warm, 8)) + 0.5
    residuals, own = rng.normal(size=(num_warm, size)) * 0.3, rng.normal(size=(num_cold, size)) * 0.3
    return tuple(rows.astype(np.float32) for rows in (cold, warm, residuals, own))  # type: ignore[return-value] # four of them


def reference(
    cold: Rows, warm: Rows, residuals: Rows, own: Rows | None, chosen: TransferSettings
) -> tuple[list[list[float]], list[float]]:
    """The method written out item by item in plain Python, sharing nothing with the code under test."""
    finals, gates = [], []
    size = residuals.shape[1]
    for c, item in enumerate(cold.astype(float)):
        cosines = [
            float(np.dot(item, other) / (math.hypot(*item) * math.hypot(*other)))
            for other in warm.astype(float)
        ]
        near = sorted(range(len(warm)), key=lambda w: -cosines[w])[: chosen.k]
        exps = [math.exp((cosines[w] - cosines[near[0]]) / chosen.temperature) for w in near]
        weights = [e / sum(exps) for e in exps]
        g = 1.0
        if chosen.gate is not None:
            m = cosines[near[0]]
            if chosen.gate.kind == "entropy_sigmoid":
                entropy = -sum(w * math.log(w) for w in weights if w > 0)
                m = 1.0 if len(near) == 1 else 1.0 - entropy / math.log(len(near))
            g = 1.0 / (1.0 + math.exp(-chosen.gate.beta * (m - chosen.gate.tau)))
            g = min(max(g, chosen.gate.g_min), chosen.gate.g_max)
            if cosines[near[0]] < chosen.gate.hard_min_sim:
                g = 0.0
        final = []
        stretch = 1.0
        if chosen.rescale:
            mean = [
                sum(w * float(x) for w, x in zip(weights, residuals[near, j], strict=True))
                for j in range(size)
            ]
            stretch = sum(w * math.hypot(*residuals[n]) for w, n in zip(weights, near, strict=True))
            stretch /= math.hypot(*mean)
        for j in range(size):
            sent = sum(w * float(residuals[n, j]) for w, n in zip(weights, near, strict=True)) * stretch
            final.append(g * chosen.alpha * sent + (1 - g) * (float(own[c, j]) if own is not None else 0.0))
        norm = math.hypot(*final)
        if chosen.max_norm is not None and norm > chosen.max_norm:
            final = [value * chosen.max_norm / norm for value in final]
        finals.append(final)
        gates.append(g)
    return finals, gates


GATES = [
    None,
    Gate(),
    Gate(tau=0.6, beta=5.0, g_min=0.1, g_max=0.7),
    Gate(hard_min_sim=0.6),
    Gate(kind="entropy_sigmoid"),
    Gate(kind="entropy_sigmoid", tau=0.1, beta=8.0, hard_min_sim=0.5, g_min=0.2),
]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("with_own", [False, True])
def test_equals_the_reference(gate: Gate | None, with_own: bool) -> None:
    cold, warm, residuals, own = arrays(0, num_cold=12, num_warm=120)
    for k, alpha, max_norm, temperature, rescale in itertools.product(
        (1, 10, 120), (1.0, 0.5), (None, 0.2), (0.07, 0.5), (False, True)
    ):
        chosen = TransferSettings(
            k=k, alpha=alpha, max_norm=max_norm, temperature=temperature, gate=gate, rescale=rescale
        )
        given_own = own if with_own else None
        finals, gates = reference(cold, warm, residuals, given_own, chosen)
        made = propagate(cold, warm, residuals, chosen, own_residuals=given_own)
        assert np.abs(made.residuals - np.array(finals)).max() < 1e-6
        assert np.abs(made.gate - np.array(gates)).max() < 1e-6
        assert made.residuals.dtype == np.float32


def test_defaults_are_the_papers() -> None:
    cold, warm, residuals, _ = arrays(1)
    spelt = transfer_residuals(
        cold, warm, residuals, own_residuals=None, k=10, temperature=0.07, alpha=1.0, max_norm=None,
        gate=Gate(kind="maxsim_sigmoid", tau=0.25, beta=20.0, hard_min_sim=0.05, g_min=0.0, g_max=1.0), batch_size=2048,
    )  # fmt: skip
    assert np.array_equal(spelt.residuals, transfer_residuals(cold, warm, residuals).residuals)


def test_double_precision_is_kept() -> None:
    cold, warm, residuals, own = (rows.astype(np.float64) for rows in arrays(2))
    made = transfer_residuals(cold, warm, residuals, own_residuals=own, k=7)
    finals, _ = reference(cold, warm, residuals, own, TransferSettings(k=7))  # type: ignore[arg-type] # doubles on purpose
    assert made.residuals.dtype == np.float64
    assert np.abs(made.residuals - np.array(finals)).max() < 1e-13


def test_batches_do_not_change_the_result() -> None:
    cold, warm, residuals, own = arrays(3)
    whole = transfer_residuals(cold, warm, residuals, own_residuals=own)
    parts = transfer_residuals(cold, warm, residuals, own_residuals=own, batch_size=7)
    assert np.array_equal(whole.residuals, parts.residuals)


def test_neighbours_found_once_serve_every_k() -> None:
    cold, warm, residuals, _ = arrays(4)
    found = nearest_warm(cold, warm, 100)
    for k in (10, 25, 50, 100):
        again = transfer_residuals(cold, warm, residuals, k=k, neighbors=found)
        alone = transfer_residuals(cold, warm, residuals, k=k)
        assert np.array_equal(again.neighbors, alone.neighbors)
        assert np.array_equal(again.residuals, alone.residuals)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), k=st.integers(1, 40), temperature=st.floats(0.01, 2.0),
    tau=st.floats(-1, 1), beta=st.floats(-50, 50), bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    kind=st.sampled_from(["maxsim_sigmoid", "entropy_sigmoid"]),
)  # fmt: skip
def test_properties(
    seed: int, k: int, temperature: float, tau: float, beta: float, bounds: Any, kind: Any
) -> None:
    cold, warm, residuals, own = arrays(seed, num_cold=5, num_warm=40)
    gate = Gate(kind=kind, tau=tau, beta=beta, g_min=min(bounds), g_max=max(bounds), hard_min_sim=-1)
    made = transfer_residuals(
        cold, warm, residuals, own_residuals=own, k=k, temperature=temperature, gate=gate, max_norm=0.5
    )
    assert (made.gate >= np.float32(gate.g_min)).all()
    assert (made.gate <= np.float32(gate.g_max)).all()
    assert made.weights.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert made.neighbors.shape == (5, k)
    assert (np.linalg.norm(made.residuals, axis=1) <= 0.5 + 1e-6).all()
    order = np.random.default_rng(seed).permutation(40)
    shuffled = transfer_residuals(
        cold,
        warm[order],
        residuals[order],
        own_residuals=own,
        k=k,
        temperature=temperature,
        gate=gate,
        max_norm=0.5,
    )
    assert shuffled.residuals == pytest.approx(made.residuals, abs=1e-6)
    assert np.array_equal(order[shuffled.neighbors], made.neighbors)


def test_a_closed_gate_keeps_what_the_item_has() -> None:
    cold = np.array([[1, 0], [1, 0]], np.float32)
    warm = np.array([[-1, 0.1], [0, 1]], np.float32)
    residuals, own = np.ones((2, 3), np.float32), np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    made = transfer_residuals(cold, warm, residuals, own_residuals=own, k=2)
    assert made.gate.tolist() == [0, 0]
    assert np.array_equal(made.residuals, own)
    assert not transfer_residuals(cold, warm, residuals, k=2).residuals.any()
    assert transfer_residuals(cold, warm, residuals, k=2, gate=None).residuals == pytest.approx(
        np.ones((2, 3))
    )


def test_a_zero_vector_takes_nothing() -> None:
    _, warm, residuals, _ = arrays(5)
    made = transfer_residuals(np.zeros((1, 8), np.float32), warm, residuals)
    assert made.gate.tolist() == [0]
    assert not made.residuals.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_torch_in_torch_out(dtype: torch.dtype) -> None:
    cold, warm, residuals, own = (torch.from_numpy(rows).to(dtype) for rows in arrays(6))
    made = transfer_residuals(cold, warm, residuals.requires_grad_(), own_residuals=own)
    assert isinstance(made.residuals, torch.Tensor)
    assert made.residuals.dtype == dtype
    assert not made.residuals.requires_grad
    assert made.neighbors.dtype == torch.int32
    assert made.weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    plain = transfer_residuals(*(rows.detach().float().numpy() for rows in (cold, warm, residuals)),
                               own_residuals=own.float().numpy())  # fmt: skip
    tolerance = 0.01 if dtype == torch.bfloat16 else 1e-6
    assert made.residuals.float().numpy() == pytest.approx(plain.residuals, abs=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_torch_stays_on_its_device() -> None:
    cold, warm, residuals, _ = (torch.from_numpy(rows).cuda() for rows in arrays(7))
    made = transfer_residuals(cold, warm, residuals)
    assert made.residuals.is_cuda
    assert made.gate.is_cuda


@pytest.mark.parametrize("index", [Index(kind="ivf", probes=64), Index(kind="hnsw")])
def test_approximate_search_transfers_nearly_the_same(index: Index) -> None:
    cold, warm, residuals, _ = arrays(8, num_warm=1000)
    exact = transfer_residuals(cold, warm, residuals)
    near = transfer_residuals(cold, warm, residuals, index=index)
    assert np.abs(exact.residuals - near.residuals).mean() < 0.05 * np.abs(exact.residuals).mean()
    assert near.similarities.dtype == np.float32


def test_k_is_clamped_with_a_warning() -> None:
    cold, warm, residuals, _ = arrays(9, num_warm=6)
    with pytest.warns(UserWarning, match="k = 10"):
        made = transfer_residuals(cold, warm, residuals)
    assert made.neighbors.shape == (30, 6)


def test_bad_input_is_named() -> None:
    cold, warm, residuals, own = arrays(10)
    broken = residuals.copy()
    broken[17, 0] = np.inf
    with pytest.raises(UserError, match="warm_residuals: row 17 holds NaN or infinity"):
        transfer_residuals(cold, warm, broken)
    with pytest.raises(UserError, match="warm_residuals: has 119 rows, warm 120"):
        transfer_residuals(cold, warm, residuals[1:])
    with pytest.raises(UserError, match=r"own_residuals: has shape \[29, 12\]; \[30, 12\] is needed"):
        transfer_residuals(cold, warm, residuals, own_residuals=own[1:])
    with pytest.raises(UserError, match="warm: has no rows"):
        transfer_residuals(cold, warm[:0], residuals[:0])
    with pytest.raises(UserError, match="temperature: Input should be greater than 0"):
        transfer_residuals(cold, warm, residuals, temperature=0)
    with pytest.raises(UserError, match="temprature: no such key"):
        transfer_residuals(cold, warm, residuals, temprature=1)  # type: ignore[call-arg] # a slip, on purpose
    found = nearest_warm(cold, warm, 10)
    with pytest.raises(UserError, match="neighbors: are not of 29 cold"):
        transfer_residuals(cold[1:], warm, residuals, neighbors=found)
    with pytest.raises(UserError, match="search again with k=25"):
        transfer_residuals(cold, warm, residuals, k=25, neighbors=found)


def test_keywords_are_the_settings() -> None:
    # `space` and `also` say which arrays a sweep gives, and here they are given; `exposure` is of the ranking.
    assert TransferOptions.__annotations__.keys() == TransferSettings.model_fields.keys() - {
        "space",
        "also",
        "exposure",
    }


def test_settings_read_from_yaml_like_data() -> None:
    chosen = TransferSettings.model_validate({"k": 25, "gate": None, "index": {"kind": "ivf"}})
    assert chosen.gate is None
    assert chosen.index.kind == "ivf"
    with pytest.raises(ValidationError, match="temprature"):
        TransferSettings.model_validate({"temprature": 0.1})
