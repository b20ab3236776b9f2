"""What a language model is asked and what it answers, whatever engine runs it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from coldray.errors import UserError

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""id of what is being answered, if it has one; engines pass it on, so that it can be found in their logs"""


@dataclass(frozen=True)
class Request:
    """One question. At most one of `schema`, `choices` and `scale` is given; without any the answer is free text."""

    prompt: str
    """name and version of the prompt that it was made with"""
    system: str
    user: str
    max_tokens: int = 512
    """of the answer"""
    temperature: float = 0.0
    seed: int = 0
    frequency_penalty: float = 0.0
    """of a token for each time that the answer has it already, off its logit"""
    schema: str = ""
    """JSON schema that the answer keeps to, as JSON"""
    choices: tuple[str, ...] = ()
    """the answers allowed"""
    scale: tuple[str, ...] = ()
    """the answers allowed, each one token, worth 0, 1, 2 …: the answer is their expected worth"""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    whole: bool = True
    """False: cut off at `max_tokens`"""
    score: float | None = None
    """expected worth on the scale that was asked for, from 0 to its length - 1"""


class RefusedError(Exception):
    """An engine cannot answer this request, such as one that is too long; it may well answer others."""


class EngineDiedError(Exception):
    """An engine is gone and answers nothing any more; only a new one will."""


class Engine(Protocol):
    """A language model. Answers many requests at once, from one event loop."""

    identity: str
    """stands for the model in what is remembered: another one answers otherwise"""

    async def generate(self, request: Request) -> Answer:
        """Return the answer. Raises RefusedError, EngineDiedError, and ServiceError if nobody can be reached."""
        ...

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return each text, or its beginning of about `tokens` tokens."""
        ...

    async def close(self) -> None:
        """Give back what the engine holds."""
        ...


def expectation(log_probabilities: list[float]) -> float:
    """Return the expected index [0, n - 1] of answers with these log probabilities [n], normalised over them."""
    values = np.array(log_probabilities, np.float64)
    if not np.isfinite(values.max()):
        raise RefusedError("no answer of the scale has a probability")
    weights = np.exp(values - values.max())
    return float(weights @ np.arange(len(values)) / weights.sum())


def check_one_kind(request: Request) -> None:
    """Raise UserError if a request asks for more than one kind of answer."""
    if sum(map(bool, (request.schema, request.choices, request.scale))) > 1:
        raise UserError(
            f"prompt {request.prompt}: asks for two kinds of answers; give one of schema, choices, scale"
        )
