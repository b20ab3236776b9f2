"""What a language model makes of an item: its profile, and the entities and relations that the profile speaks of.

ColdRAG (arXiv, section 3.1, appendix D.1 and D.2) with two changes. The model is never asked to name the item itself: it is
bound to its row by id, so that no spelling can lose it. And each entity comes with the sentence that ties it to the item, so
that the names of both need not be written again for every relation.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from coldray.graph.catalogue import CatalogueItem
from coldray.graph.names import entity_id, item_entity_id, normalise
from coldray.graph.schema import CATALOGUE, LLM
from coldray.graph.settings import BuildSettings
from coldray.llm.answers import Asks, Usage
from coldray.llm.engine import Answer, RefusedError, Request
from coldray.llm.prompt import Prompt, as_data, one_line
from coldray.settings import digest, explain

_FOLDER = Path(__file__).parent / "prompts"
_RETRY_TEMPERATURE = 0.7
_LEAST = 3
"""entities of an answer"""
_PENALTY = 0.5
"""for repeating words in a profile; small models otherwise say the same sentence to the end"""
_TAG, _SENTENCE = re.compile(r"‹[^›]*›"), re.compile(r"(?<=[.!?])\s+")
T = TypeVar("T")

_plain = BeforeValidator(lambda text: one_line(text) if isinstance(text, str) else text)
Name = Annotated[str, _plain, StringConstraints(min_length=1, max_length=60)]
Sentence = Annotated[str, _plain, StringConstraints(max_length=200)]


class ExtractedEntity(BaseModel):
    """An entity of an answer."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    type: str
    description: Sentence
    relation: Sentence


class ExtractedRelation(BaseModel):
    """A relation of an answer, between two of its entities."""

    model_config = ConfigDict(extra="forbid")
    source: Name
    target: Name
    description: Sentence


class Extraction(BaseModel):
    """An answer to the prompt `extract`."""

    model_config = ConfigDict(extra="forbid")
    entities: list[ExtractedEntity]
    relations: list[ExtractedRelation] = Field(default=[])


@dataclass
class Contribution:
    """What an item brings to the graph, and what it took."""

    item_id: str
    title: str
    profile: str = ""
    entities: list[dict[str, Any]] = field(default_factory=list)
    """rows of `schema.ENTITY_MENTIONS` without the item's id"""
    relations: list[dict[str, Any]] = field(default_factory=list)
    """rows of `schema.RELATION_MENTIONS` without the item's id"""
    usage: Usage = field(default_factory=Usage)
    failed: str = ""
    """the stage that failed, "" if none did"""
    error: str = ""
    answer: str = ""
    """the text that failed"""
    dropped: int = 0
    """relations of the answer that name an entity which it does not have"""
    copied: int = 0
    """names and sentences that the answer took from the prompt's example"""
    began: float = 0.0
    ended: float = 0.0
    """seconds since 1970 at which the item was taken up, and was done"""


class Describer:
    """Asks a language model about items."""

    def __init__(self, engine: Asks, settings: BuildSettings, attempt: int = 0) -> None:
        self.engine, self.settings, self.attempt = engine, settings, attempt
        self.profile, self.extract = read_prompts()
        self.schema = json.dumps(answer_schema(settings))

    async def describe(self, item: CatalogueItem) -> Contribution:
        """Return what the item brings. Never raises for what a model answers: it is recorded as failed, with its text."""
        made = Contribution(item.item_id, item.title, began=time.time())
        await self._ask_all(made, item)
        made.ended = time.time()
        return made

    async def _ask_all(self, made: Contribution, item: CatalogueItem) -> None:
        bring_catalogue(made, item)
        lines = "\n".join(
            f"{name}: {text or '(empty)'}" for name, text in (await self._cut(item.fields)).items()
        )
        (fields,) = await self.engine.cut([lines], self.settings.item_tokens)
        slots = {"fields": fields, "words": self.settings.profile_words}
        asked = self.profile.request(
            slots, max_tokens=self.settings.profile_tokens, frequency_penalty=_PENALTY
        )
        profile = await self._ask(made, asked, paragraph)
        if profile is None:
            return
        made.profile = made.entities[0]["description"] = profile
        (title,) = await self.engine.cut([item.title], self.settings.field_tokens)
        limits = {"max_entities": self.settings.max_entities, "max_relations": self.settings.max_relations}
        asked = self.extract.request(
            {"title": title, "profile": profile, "types": self.settings.types, **limits},
            max_tokens=self.settings.extraction_tokens,
            schema=self.schema,
        )
        found = await self._ask(made, asked, self._extraction)
        if found is not None:
            bring_extraction(made, self._own(made, found, f"{title} {profile}"))

    def _own(self, made: Contribution, found: Extraction, text: str) -> Extraction:
        """Return an extraction without what it copied from the prompt's example, as small models do; it is counted.

        An entity is copied if its name stands in the example and no word of it in the item's text, a sentence if it stands
        there.
        """
        example, words = self.extract.system, set(normalise(text).split())

        def own_sentence(given: str) -> str:
            copied = f':"{given}"' in example
            made.copied += copied
            return "" if copied else given

        entities = []
        for entity in found.entities:
            if f'"name":"{entity.name}"' in example and not words & set(normalise(entity.name).split()):
                made.copied += 1
                continue
            told = {part: own_sentence(getattr(entity, part)) for part in ("description", "relation")}
            entities.append(entity.model_copy(update=told))
        relations = [
            relation.model_copy(update={"description": own_sentence(relation.description)})
            for relation in found.relations
        ]
        return Extraction(entities=entities, relations=relations)

    async def _cut(self, fields: dict[str, str]) -> dict[str, str]:
        texts = await self.engine.cut(list(fields.values()), self.settings.field_tokens)
        return dict(zip(fields, texts, strict=True))

    async def _ask(self, made: Contribution, request: Request, parse: Callable[[Answer], T]) -> T | None:
        """Return what `parse` makes of the answer; None, and the failure recorded, if it does not satisfy it twice."""
        fault, text = "", ""
        for attempt in (self.attempt, self.attempt + 1):
            try:
                answer, usage = await self.engine.ask(_again(request, attempt, fault))
            except RefusedError as refused:  # as it would be a second time
                made.failed, made.error = request.prompt, str(refused)
                return None
            made.usage.add(usage)
            try:
                return parse(answer)
            except ValidationError as error:
                fault, text = explain(error), answer.text
            except ValueError as error:
                fault, text = str(error), answer.text
        made.failed, made.error, made.answer = request.prompt, fault, text
        return None

    def _extraction(self, answer: Answer) -> Extraction:
        if not answer.whole:
            raise ValueError(f"was cut off after {answer.completion_tokens} tokens; write less")
        found = Extraction.model_validate_json(answer.text)
        for entity in found.entities:
            if entity.type not in self.settings.types:
                raise ValueError(f"{entity.type!r} is no type; take one of {', '.join(self.settings.types)}")
        return found


def paragraph(answer: Answer) -> str:
    """Return a profile as one paragraph of whole sentences, none twice. Raises ValueError if there is none."""
    text = one_line(_TAG.sub(" ", as_data(answer.text)))
    if not answer.whole and (end := max(text.rfind(mark) for mark in ".!?")) > 0:
        text = text[: end + 1]
    text = " ".join(dict.fromkeys(_SENTENCE.split(text)))
    if not any(map(str.isalnum, text)):
        raise ValueError("says nothing; write the profile")
    return text


def bring_catalogue(made: Contribution, item: CatalogueItem) -> None:
    """Add what the catalogue says without a model: the item itself, and the entities of its fields."""
    item_entity = item_entity_id(item.item_id)
    made.entities.append(_entity(item_entity, "item", item.title, item.title, CATALOGUE))
    for kind, name in item.values:
        entity = entity_id(kind, name)
        if entity not in {there["entity"] for there in made.entities}:
            made.entities.append(_entity(entity, kind, name, "", CATALOGUE))
            made.relations.append(
                _relation(item_entity, entity, kind, f"The {kind} of {item.title} is {name}.", CATALOGUE)
            )


def bring_extraction(made: Contribution, found: Extraction) -> None:
    """Add what a model found: entities, each tied to the item, and relations between them.

    A name that is the item's title means the item; one that a field of the catalogue gave is that entity.
    """
    item_entity = made.entities[0]["entity"]
    known = {normalise(there["name"]): there["entity"] for there in reversed(made.entities)}
    for entity in found.entities:
        name = normalise(entity.name)
        if not name or name in known:
            continue
        known[name] = entity_id(entity.type, entity.name)
        made.entities.append(_entity(known[name], entity.type, entity.name, entity.description, LLM))
        made.relations.append(_relation(item_entity, known[name], entity.type, entity.relation, LLM))
    for relation in found.relations:
        ends = known.get(normalise(relation.source)), known.get(normalise(relation.target))
        if ends[0] is None or ends[1] is None or ends[0] == ends[1]:
            made.dropped += 1
            continue
        made.relations.append(_relation(ends[0], ends[1], "related", relation.description, LLM))


def _entity(entity: int, kind: str, name: str, description: str, origin: str) -> dict[str, Any]:
    return {"entity": entity, "type": kind, "name": name, "description": description, "origin": origin}


def _relation(one: int, other: int, kind: str, description: str, origin: str) -> dict[str, Any]:
    ends = {"head": min(one, other), "tail": max(one, other)}
    return {**ends, "type": kind, "description": description, "origin": origin}


def _again(request: Request, attempt: int, fault: str) -> Request:
    """Return the request for another attempt: with what was wrong, and drawn anew."""
    if attempt == 0:
        return request
    told = f"\n\nYour last answer was not accepted: {as_data(fault)}" if fault else ""
    return replace(request, user=request.user + told, temperature=_RETRY_TEMPERATURE, seed=attempt)


def read_prompts() -> tuple[Prompt, Prompt]:
    """Return the prompts of the profile and of the extraction."""
    return Prompt.read(_FOLDER / "profile.j2"), Prompt.read(_FOLDER / "extract.j2")


def recipe_of(settings: BuildSettings, identity: str) -> str:
    """Return the hash of all that decides what is made of an item besides its row: settings, model, prompts."""
    decides = settings.model_dump(mode="json", exclude={"llm", "engines", "merge_above", "sentence_model"})
    return digest([decides, identity, [prompt.version for prompt in read_prompts()]])


def answer_schema(settings: BuildSettings) -> dict[str, Any]:
    """Return the JSON schema of an `Extraction` within the limits of the settings."""
    name, sentence = {"type": "string", "maxLength": 60}, {"type": "string", "maxLength": 200}
    kind = {"type": "string", "enum": list(settings.types)}
    entity = {"name": name, "type": kind, "description": sentence, "relation": sentence}
    relation = {"source": name, "target": name, "description": sentence}
    return _object(
        {
            # Without a least number small models say that there is nothing.
            "entities": {
                "type": "array",
                "items": _object(entity),
                "minItems": min(_LEAST, settings.max_entities),
                "maxItems": settings.max_entities,
            },
            "relations": {"type": "array", "items": _object(relation), "maxItems": settings.max_relations},
        }
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
