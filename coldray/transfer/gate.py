"""The gate: how far a cold item takes over the residual of its warm neighbours."""

from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.special import entr, expit

from coldray.settings import Settings

Float64 = npt.NDArray[np.float64]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Gate(Settings):
    """A sigmoid of how sure the neighbourhood is: g = clip(sigmoid(beta (m - tau)), g_min, g_max)."""

    kind: Literal["maxsim_sigmoid", "entropy_sigmoid"] = Field(
        default="maxsim_sigmoid",
        description="what m is: the largest cosine similarity, or 1 - H(weights) / ln K",
    )
    tau: Finite = Field(default=0.25, description="value of m at which the gate is half open")
    beta: Finite = Field(default=20.0, description="slope of the sigmoid")
    hard_min_sim: Finite = Field(
        default=0.05,
        description="the gate is 0 where the largest cosine similarity is below this, for both kinds",
    )
    g_min: Share = Field(default=0.0, description="smallest gate, in [0, 1]")
    g_max: Share = Field(default=1.0, description="largest gate, in [0, 1]")

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.g_min > self.g_max:
            raise ValueError(f"g_min {self.g_min} is above g_max {self.g_max}; swap them")
        return self


def softmax_weights(similarities: Float64, temperature: float) -> Float64:
    """Return the weight of each neighbour, [n, k] float64 of row sum 1, from similarities [n, k].

    Paper, equation 4: exp(s / T) over the row's sum of it.
    """
    logits = similarities / temperature
    weights: Float64 = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def confidence(weights: Float64) -> Float64:
    """Return 1 - H(weights) / ln K of each row of `weights` [n, K], [n] float64 in [0, 1].

    1 means that one neighbour has all the weight, 0 that all weigh the same. A single neighbour (K = 1)
    is sure: 1.
    """
    count = weights.shape[1]
    if count == 1:
        return np.ones(len(weights))
    sure: Float64 = np.clip(1.0 - entr(weights).sum(axis=1) / np.log(count), 0.0, 1.0)
    return sure


def gate_values(similarities: Float64, weights: Float64, gate: Gate | None) -> Float64:
    """Return the gate of each item, [n] float64, from its neighbours' similarities and weights, both [n, k].

    Paper, equations 6, 7 and the hard threshold below them. Without a gate it is 1 for every item.
    """
    if gate is None:
        return np.ones(len(similarities))
    largest = similarities.max(axis=1)
    measure = largest if gate.kind == "maxsim_sigmoid" else confidence(weights)
    values: Float64 = np.clip(expit(gate.beta * (measure - gate.tau)), gate.g_min, gate.g_max)
    # The threshold comes after the clip: what is too far away gives nothing, even where g_min is above 0.
    values[largest < gate.hard_min_sim] = 0.0
    return values
