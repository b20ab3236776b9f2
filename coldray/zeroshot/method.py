"""What the training-free methods share: a person, what is asked of the model, and the list that comes back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from coldray.llm.answers import Asks, Usage
from coldray.llm.engine import Answer, RefusedError, Request
from coldray.llm.prompt import Prompt
from coldray.zeroshot.catalogue import Catalogue
from coldray.zeroshot.settings import ZeroShotSettings

TOP = 10
"""items that are recommended"""


@dataclass(frozen=True)
class Person:
    """Somebody to recommend to."""

    number: int
    """place among the test users: with a seed it draws the candidates"""
    history: list[int]
    """item indices, oldest first, none twice, as many as are told"""
    candidates: list[int]
    """drawn from what is not in the whole history"""
    seen: frozenset[int]
    """the whole history"""


@dataclass
class Recommended:
    """What a method recommends."""

    items: list[int]
    """item indices, best first, none twice, at most ten"""
    written: list[str] = field(default_factory=list)
    """titles as the model wrote them, at most ten; none where it could choose only among candidates"""
    unknown: int = 0
    """of these, that are in no catalogue"""
    usage: Usage = field(default_factory=Usage)
    evidence: list[str] = field(default_factory=list)
    """of each item, where the method has any"""


class Method(Protocol):
    """A training-free method, made ready for a catalogue."""

    async def recommend(self, person: Person, seed: int) -> Recommended:
        """Return ten items for a person; `seed` is that of what is drawn for this person in this run."""
        ...


class Model:
    """A language model whose answers are counted as if asked for the first time, wherever they come from."""

    def __init__(self, engine: Asks, settings: ZeroShotSettings) -> None:
        self.engine, self.settings = engine, settings

    async def ask(self, request: Request, usage: Usage) -> Answer:
        """Return the answer and count it into `usage`."""
        answer, spent = await self.engine.ask(request)
        usage.add(Usage(1, spent.remembered, answer.prompt_tokens, answer.completion_tokens))
        return answer


def prompt(name: str) -> Prompt:
    """Return a prompt of this package."""
    return Prompt.read(Path(__file__).parent / "prompts" / f"{name}.j2")


class Lister:
    """Asks for a list of titles and matches them to the catalogue."""

    def __init__(self, model: Model, catalogue: Catalogue, name: str) -> None:
        self.model, self.catalogue, self.prompt = model, catalogue, prompt(name)

    async def recommend(
        self,
        person: Person,
        candidates: list[int],
        seed: int,
        slots: dict[str, Any],
        notes: list[str] | None = None,
    ) -> Recommended:
        """Return the items whose titles the model writes when it is shown `candidates`, each with its note.

        Where they are too many for the model's context only the first half of them is shown, and so on.
        """
        settings = self.model.settings
        made = Recommended([])
        titles = self.catalogue.shown(candidates, settings.title_characters)
        shown = [
            {"title": title, "note": note}
            for title, note in zip(titles, notes or [""] * len(titles), strict=True)
        ]
        history = self.catalogue.shown(person.history, settings.title_characters)
        while shown:
            request = self.prompt.request(
                {"candidates": shown, "history": history, "top": min(TOP, len(shown)), **slots},
                max_tokens=settings.list_tokens,
                temperature=settings.temperature,
                seed=seed,
            )
            try:
                answer = await self.model.ask(request, made.usage)
            except RefusedError:
                shown = shown[: len(shown) // 2]
                continue
            made.written = lines(answer.text)
            break
        found = [self.catalogue.match(title, candidates) for title in made.written]
        made.unknown = sum(item == 0 for item in found)
        made.items = list(dict.fromkeys(item for item in found if item and item not in person.seen))
        return made


def lines(answer: str) -> list[str]:
    """Return the first ten lines that may be titles: not empty, and not the announcement of a list."""
    stripped = (line.strip().strip("*\"'`").strip() for line in answer.splitlines())
    return [line for line in stripped if line and not line.endswith(":")][:TOP]
