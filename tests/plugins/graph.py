"""Small made-up catalogues and their graphs."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from coldray.graph.names import entity_id, item_entity_id
from coldray.graph.schema import ENTITY_MENTIONS, ITEMS, RELATION_MENTIONS


class Catalogue:
    """Items by id, each with the names of features it mentions; makes the tables that `apply` takes."""

    def tables(self, items):
        rows, entities, relations = [], [], []
        for item, features in items.items():
            own = item_entity_id(item)
            rows.append(
                {
                    "item_id": item,
                    "entity": own,
                    "title": f"T {item}",
                    "content": str(features),
                    "profile": "",
                }
            )
            entities.append(self.entity(item, own, "item", f"T {item}", f"profile of {item}"))
            for feature in features:
                other = entity_id("feature", feature)
                entities.append(self.entity(item, other, "feature", feature, f"{feature} by {item}"))
                relations.append(self.relation(item, own, other, f"{item} has {feature}"))
            for one, two in itertools.pairwise(features):
                ends = entity_id("feature", one), entity_id("feature", two)
                if ends[0] != ends[1]:
                    relations.append(self.relation(item, *ends, f"{one} goes with {two}"))
        made = zip((rows, entities, relations), (ITEMS, ENTITY_MENTIONS, RELATION_MENTIONS), strict=True)
        return [pa.Table.from_pylist(part, schema) for part, schema in made]

    @staticmethod
    def entity(item, entity, kind, name, description):
        row = {"item_id": item, "entity": entity, "type": kind, "name": name}
        return row | {"description": description, "origin": "llm"}

    @staticmethod
    def relation(item, one, other, description):
        row = {"item_id": item, "head": min(one, other), "tail": max(one, other), "type": "feature"}
        return row | {"description": description, "origin": "llm"}

    @staticmethod
    def embed(texts):
        """Return vectors [n, 16] of length 1: the counts of letters, so that alike texts have alike vectors."""
        made = np.zeros((len(texts), 16), np.float32)
        for row, text in zip(made, texts, strict=True):
            for letter in text.casefold():
                row[ord(letter) % 16] += 1
        return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)

    def write(self, uri, items, removed=(), above=0.999):
        from coldray.graph.store import writing

        with writing(str(uri)) as writer:
            writer.apply(*self.tables(items), list(removed), self.embed, above)
            return writer.commit()

    @staticmethod
    def state(uri, version=None):
        """Return every table of a version as sorted rows, vectors as lists, ids of Lance left out."""
        from coldray.graph.store import GraphStore

        made = {}
        for name, table in GraphStore.open(str(uri), version).tables.items():
            rows = table.to_table().to_pylist()
            made[name] = sorted(rows, key=lambda row: repr(sorted((k, str(v)) for k, v in row.items())))
        return made


@pytest.fixture(scope="session")
def catalogue():
    return Catalogue()
