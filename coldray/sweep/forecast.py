"""What the language model's part of a comparison will take: tokens, time and money, from asking for a few users."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from pydantic import SecretStr

from coldray import storage
from coldray.data.dataset import Split, load_split
from coldray.errors import UserError
from coldray.llm.engine import Engine
from coldray.llm.settings import make_engine
from coldray.sweep.asking import ask_all, asked_of, prices_of
from coldray.sweep.config import SweepSettings
from coldray.sweep.questions import Question, make_questions
from coldray.sweep.results import with_test_users
from coldray.sweep.run import cluster, language_model
from coldray.zeroshot.catalogue import Catalogue


@dataclass(frozen=True)
class Forecast:
    """What all users and seeds of a method, or of a value of an analysis, will take."""

    what: str
    prompt_tokens: float
    """read, as if every answer were asked for the first time"""
    completion_tokens: float
    """written, likewise"""
    hours: float
    cost: float
    """in the currency of the prices; 0 without any"""

    def times(self, number: int, what: str) -> "Forecast":
        """Return the forecast of so many of the same."""
        plain = {name: value * number for name, value in asdict(self).items() if name != "what"}
        return Forecast(what, **plain)


def forecast(
    settings: SweepSettings,
    sample: int,
    *,
    address: str | None = None,
    say: Callable[[str], None] = print,
    key: SecretStr | None = None,
) -> list[Forecast]:
    """Return what the cells of a comparison that ask a language model will take, by asking for `sample` of their users.

    The first seed is asked, then the second, in which a model has read the prompts and answers without chance are known; its
    time stands for all further ones. Nothing is kept. A sample may fill a model less than all users would: then it takes less
    than this says. Trainings are not counted. Raises UserError for a sweep that asks no model, and what a sweep raises.
    """
    questions = [question for asked in make_questions(settings).values() for question in asked]
    if settings.zeroshot is None or not questions:
        raise UserError(f"{settings.name}: asks no language model; there is nothing to sample")
    split = with_test_users(load_split(settings.dataset, settings.split), settings.cold_users)
    table = storage.read_table(storage.join(settings.dataset, "items.parquet"))
    catalogue = Catalogue.of(table, split.item_ids, settings.zeroshot.columns)
    with (
        cluster(address, settings),
        language_model(settings, say) as llm,
        tempfile.TemporaryDirectory() as answers,
    ):
        if llm is None:
            raise ValueError("there is a question and no model")
        engine = partial(make_engine, llm, key)
        asking = _Asking(split, catalogue, sample, settings.seeds, engine, answers, say)
        made = [asking.of(question) for question in questions if not question.growth[1]]
    # A growing graph is walked as the whole one is.
    steps = sum(question.growth[1] > 0 for question in questions)
    whole = [found for found in made if found.what == "coldrag"]
    return [*made, *(found.times(steps, "coldrag, growing graph") for found in whole if steps)]


@dataclass(frozen=True)
class _Asking:
    """Asks a sample."""

    split: Split
    catalogue: Catalogue
    sample: int
    seeds: tuple[int, ...]
    engine: Callable[[], Engine]
    answers: str
    say: Callable[[str], None]

    def of(self, question: Question) -> Forecast:
        """Return the forecast of a question."""
        users = len(self.split.test)
        some = replace(self.split, test=self.split.test.take(np.arange(min(self.sample, users))))
        scale = users / len(some.test)
        read = written = seconds = 0.0
        for seed, cells in zip(self.seeds, (1, len(self.seeds) - 1), strict=False):
            asked, began = asked_of(some, question), time.perf_counter()
            for _ in ask_all(asked, question, seed, self.catalogue, self.engine, self.answers):
                pass
            took = time.perf_counter() - began - asked.prepared_seconds
            seconds += cells * (asked.prepared_seconds + scale * took)
            usages = [found.usage for found in asked.recommended if found is not None]
            read += cells * scale * sum(usage.prompt_tokens for usage in usages)
            written += cells * scale * sum(usage.completion_tokens for usage in usages)
            if seed == self.seeds[0]:  # what comes before the first user is asked once for all seeds
                read += asked.prepared.prompt_tokens
                written += asked.prepared.completion_tokens
        prices = prices_of(question.settings)
        cost = (read * prices[0] + written * prices[1]) / 1e6
        made = Forecast(f"{question.method} {question.varied}".rstrip(), read, written, seconds / 3600, cost)
        self.say(f"{made.what}: {len(some.test)} users asked")
        return made
