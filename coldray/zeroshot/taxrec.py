"""TaxRec (Liang et al., 2025, COLING): the model makes a taxonomy of the catalogue, sorts the items into it, and recommends
kinds of item, which are matched to the candidates by the features that they share.

All three steps are decoded by a schema, so that no feature comes out that the taxonomy has not. As in the paper no title is
written, so that nothing can be made up.
"""

import asyncio
import json
from typing import Any

import numpy as np

from coldray.llm.answers import Usage
from coldray.llm.engine import Answer, RefusedError
from coldray.zeroshot.catalogue import Catalogue
from coldray.zeroshot.method import TOP, Model, Person, Recommended, prompt

Taxonomy = dict[str, list[str]]
_VALUES = 10
"""of a feature, at most"""
_TAXONOMY_TOKENS, _ITEM_TOKENS, _LIST_TOKENS = 900, 160, 120
"""of the answers: all, an item's, and each kind's of the last"""


class TaxRec:
    """A `Method`; `prepare` first."""

    def __init__(self, model: Model, catalogue: Catalogue) -> None:
        self.model, self.catalogue, self.settings = model, catalogue, model.settings
        self.taxonomy: Taxonomy = {}
        self.features: list[dict[str, str]] = []
        """[n + 1] of each item; {} where the model's answer was of no use"""

    async def prepare(self) -> Usage:
        """Make the taxonomy and sort every item into it; return what that took."""
        usage, characters = Usage(), self.settings.title_characters
        rng = np.random.default_rng(self.settings.candidate_seed)
        sample = rng.permutation(len(self.catalogue))[: self.settings.taxonomy_sample] + 1
        titles = self.catalogue.shown(sorted(sample.tolist()), characters)
        slots = {"titles": titles, "features": self.settings.taxonomy_features, "values": _VALUES}
        schema = _taxonomy_schema(self.settings.taxonomy_features)
        request = prompt("taxonomy").request(slots, max_tokens=_TAXONOMY_TOKENS, schema=schema)
        self.taxonomy = _taxonomy(await self.model.ask(request, usage))
        ask, kind = prompt("categorise"), json.dumps(_item_schema(self.taxonomy))
        room = asyncio.Semaphore(self.settings.llm.concurrency)

        async def sort(item: int) -> dict[str, str]:
            (title,) = self.catalogue.shown([item], characters)
            slots = {"title": title, "taxonomy": self.taxonomy}
            made = ask.request(slots, max_tokens=_ITEM_TOKENS, schema=kind)
            async with room:
                return _object(await self.model.ask(made, usage))

        self.features = [{}, *await asyncio.gather(*map(sort, range(1, len(self.catalogue) + 1)))]
        return usage

    async def recommend(self, person: Person, seed: int) -> Recommended:
        """Return the ten candidates that share most features with the kinds that the model asks for."""
        made = Recommended([])
        titles = self.catalogue.shown(person.history, self.settings.title_characters)
        history = [
            {"title": title, "features": self.features[item]}
            for title, item in zip(titles, person.history, strict=True)
        ]
        number = self.settings.taxonomy_lists
        kinds = {
            "type": "array",
            "items": _item_schema(self.taxonomy),
            "minItems": number,
            "maxItems": number,
        }
        while True:
            request = prompt("recommend_kinds").request(
                {"history": history, "taxonomy": self.taxonomy, "number": number},
                max_tokens=_LIST_TOKENS * number,
                temperature=self.settings.temperature,
                seed=seed,
                schema=json.dumps(kinds),
            )
            try:
                wanted = _list(await self.model.ask(request, made.usage))
                break
            except RefusedError:
                if len(history) < 2:
                    wanted = []
                    break
                history = history[len(history) // 2 :]
        scores = [
            sum(kind.get(name) == value for kind in wanted for name, value in self.features[item].items())
            for item in person.candidates
        ]
        order = np.argsort([-score for score in scores], kind="stable")[:TOP]
        made.items = [person.candidates[place] for place in order.tolist()]
        return made


def _taxonomy_schema(features: int) -> str:
    text = {"type": "string", "minLength": 1, "maxLength": 30}
    values = {"type": "array", "items": text, "minItems": 2, "maxItems": _VALUES}
    feature: dict[str, Any] = {"type": "object", "properties": {"name": text, "values": values}}
    feature |= {"required": ["name", "values"], "additionalProperties": False}
    return json.dumps({"type": "array", "items": feature, "minItems": features, "maxItems": features})


def _item_schema(taxonomy: Taxonomy) -> dict[str, Any]:
    properties = {name: {"type": "string", "enum": values} for name, values in taxonomy.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _taxonomy(answer: Answer) -> Taxonomy:
    """Return the features with their values, each with Unknown among them; those of an answer that was cut off too."""
    text = answer.text
    end = len(text)
    while end > 0:
        try:
            found = json.loads(text if end == len(text) else text[:end] + "]")
            break
        except ValueError:
            end = text.rfind("}", 0, end - 1) + 1 if end > 1 else 0
    else:
        found = []
    made: Taxonomy = {}
    for feature in found:
        values = list(dict.fromkeys([*map(str, feature["values"]), "Unknown"]))
        made.setdefault(str(feature["name"]), values)
    return made or {"Kind": ["Unknown"]}


def _object(answer: Answer) -> dict[str, str]:
    try:
        found = json.loads(answer.text)
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if value != "Unknown"}


def _list(answer: Answer) -> list[dict[str, str]]:
    """Return the kinds of an answer, those before the end of one that was cut off."""
    text = answer.text
    for candidate in (text, text[: text.rfind("}") + 1] + "]"):
        try:
            return [dict(kind) for kind in json.loads(candidate)]
        except ValueError:
            continue
    return []
