"""The transfer settings among which a choice is made, as a search draws them one after another."""

from collections.abc import Sequence
from typing import Any

import optuna

from coldray.transfer.gate import Gate
from coldray.transfer.residuals import Modality, TransferSettings

PAPER: dict[str, Any] = {"k": 10, "temperature": 0.07, "alpha": 1.0, "rescale": False}
PAPER |= {"gate": "maxsim_sigmoid", "tau": 0.25, "beta": 20.0, "space": "item_vectors"}
"""the settings of gated residual transfer, which are tried first"""
SAME = ("item_vectors", "embedding")
"""spaces that are the same modality, before and after its reduction"""


def first_trial(spaces: Sequence[str]) -> dict[str, Any]:
    """Return the paper's settings as values of the trial that `suggest` is called with."""
    return PAPER | {_with(space): False for space in spaces if space not in SAME}


def suggest(trial: optuna.Trial, k_max: int, spaces: Sequence[str]) -> TransferSettings:
    """Return the settings of a trial: of K up to `k_max`, neighbours of one of `spaces` and perhaps others."""
    kind = trial.suggest_categorical("gate", ["none", "maxsim_sigmoid", "entropy_sigmoid"])
    gate = None
    if kind != "none":
        tau, beta = trial.suggest_float("tau", 0.0, 1.0), trial.suggest_float("beta", 2.0, 50.0, log=True)
        gate = Gate.model_validate({"kind": kind, "tau": tau, "beta": beta})
    k = trial.suggest_int("k", 1, k_max, log=True)
    temperature = trial.suggest_float("temperature", 0.005, 0.5, log=True)
    alpha = trial.suggest_float("alpha", 0.25, 2.0)
    rescale = trial.suggest_categorical("rescale", [False, True])
    space = trial.suggest_categorical("space", list(spaces))
    others = [name for name in spaces if name not in SAME and name != space]
    if space not in SAME:
        others.insert(0, "embedding")
    also = tuple(
        _modality(trial, name) for name in others if trial.suggest_categorical(_with(name), [False, True])
    )
    return TransferSettings(
        k=k, temperature=temperature, gate=gate, alpha=alpha, rescale=rescale, space=space, also=also
    )


def _modality(trial: optuna.Trial, space: str) -> Modality:
    scale = trial.suggest_float(f"scale of {space}", 0.2, 5.0, log=True)
    return Modality(space=space, scale=scale, offset=trial.suggest_float(f"offset of {space}", 0.0, 0.5))


def _with(space: str) -> str:
    return f"with {space}"
