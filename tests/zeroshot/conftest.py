"""A small shop, and a model that is told what to answer."""

import asyncio

import pyarrow as pa
import pytest

from coldray.llm.answers import Usage
from coldray.llm.engine import Answer, RefusedError
from coldray.zeroshot.catalogue import Catalogue
from coldray.zeroshot.method import Model, Person
from coldray.zeroshot.settings import ZeroShotSettings

TITLES = [
    "Blue gel pen, fine point, 12 pack",
    "Red gel pen, fine point, 12 pack",
    "Steel ruler 30 cm",
    "Wooden ruler 30 cm",
    "Laser printer toner, black",
    "Laser printer paper A4 500 sheets",
    "Notebook A5 lined",
    "Notebook A5 lined",
]


class Scripted:
    """Answers by a function of the request; keeps what it was asked. Refuses prompts of more than `longest` characters."""

    def __init__(self):
        self.answer, self.asked, self.longest = lambda request: "", [], None

    async def ask(self, request):
        await asyncio.sleep(0)
        if self.longest is not None and len(request.user) > self.longest:
            raise RefusedError("too long")
        self.asked.append(request)
        made = self.answer(request)
        return (made if isinstance(made, Answer) else Answer(made, 11, 7)), Usage(1, 0, 11, 7)

    async def cut(self, texts, tokens):
        return texts


@pytest.fixture
def engine():
    return Scripted()


@pytest.fixture
def make_model(engine):
    def make(**changes):
        llm = {"engine": "openai", "model": "scripted", "url": "http://127.0.0.1:9"}
        return Model(engine, ZeroShotSettings.model_validate({"llm": llm} | changes))

    return make


@pytest.fixture(scope="session")
def catalogue():
    ids = [f"s{i}" for i in range(len(TITLES))]
    descriptions = [f"{title}. Good for offices." for title in TITLES]
    table = pa.table({"item_id": ids, "title": TITLES, "description": descriptions})
    return Catalogue.of(table, pa.array(ids), ("description", "not there"))


@pytest.fixture
def person():
    return Person(0, [1, 3], [2, 4, 5, 6, 7], frozenset({1, 3}))
