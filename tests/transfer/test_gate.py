"""The gate's formula, its bounds and its settings."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from coldray.transfer.gate import Gate, confidence, gate_values, softmax_weights

WEIGHTS = np.array([[0.5, 0.5]])


def test_half_open_at_tau_and_steeper_with_beta() -> None:
    at_tau = gate_values(np.array([[0.25, 0.1]]), WEIGHTS, Gate())
    assert at_tau == pytest.approx([0.5])
    above = gate_values(np.array([[0.30, 0.1]]), WEIGHTS, Gate())
    assert above == pytest.approx([1 / (1 + math.exp(-20 * 0.05))])


def test_clip_then_hard_threshold() -> None:
    similarities = np.array([[0.9, 0.1], [0.06, 0.0], [0.04, 0.0]])
    values = gate_values(similarities, np.full((3, 2), 0.5), Gate(g_min=0.2, g_max=0.8))
    assert values == pytest.approx([0.8, 0.2, 0.0])


def test_threshold_itself_still_passes() -> None:
    assert gate_values(np.array([[0.05, 0.0]]), WEIGHTS, Gate(g_min=0.3)) == pytest.approx([0.3])


def test_no_gate_is_fully_open_even_below_the_threshold() -> None:
    assert gate_values(np.array([[-0.5, -0.6]]), WEIGHTS, None) == pytest.approx([1.0])


def test_confidence_by_hand() -> None:
    weights = np.array([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert confidence(weights) == pytest.approx([0.0, 1.0, 0.5])
    assert confidence(np.ones((2, 1))) == pytest.approx([1.0, 1.0])


def test_entropy_gate_uses_confidence_but_keeps_the_similarity_threshold() -> None:
    gate = Gate(kind="entropy_sigmoid", tau=0.5, beta=4.0)
    weights = np.array([[1.0, 0.0], [1.0, 0.0]])
    values = gate_values(np.array([[0.9, 0.1], [0.01, 0.0]]), weights, gate)
    assert values == pytest.approx([1 / (1 + math.exp(-2)), 0.0])


def test_softmax_survives_a_tiny_temperature() -> None:
    weights = softmax_weights(np.array([[1.0, 0.5], [0.3, 0.3]]), 1e-6)
    assert weights == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match=r"g_min 0\.5 is above g_max 0\.4"):
        Gate(g_min=0.5, g_max=0.4)
    with pytest.raises(ValidationError, match="g_max"):
        Gate(g_max=1.5)
    with pytest.raises(ValidationError, match="sharpness"):
        Gate.model_validate({"sharpness": 3})
