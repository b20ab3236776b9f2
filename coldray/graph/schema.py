"""The tables that items bring to the graph, and what may stand in them.

An item brings *mentions*: of entities and of relations between them. The graph is what all mentions say together, so
that taking an item's mentions away takes back just what it brought.
"""

import pyarrow as pa

TYPES = ("item", "genre", "setting", "feature", "target user", "etc")
"""types of entities (ColdRAG, appendix C); a catalogue's fields may bring others, such as brand"""

LLM, CATALOGUE = "llm", "catalogue"
"""origins of a mention: what a language model wrote, and what a field of the catalogue says"""

ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("entity", pa.int64()),  # the entity that the item is
        ("title", pa.string()),
        ("content", pa.string()),  # hash of all that the item's mentions were made of
        ("profile", pa.string()),
    ]
)

ENTITY_MENTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        (
            "entity",
            pa.int64(),
        ),  # hash of type and normalised name; of the item's id where the entity is the item
        ("type", pa.string()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("origin", pa.string()),
    ]
)

RELATION_MENTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("head", pa.int64()),
        ("tail", pa.int64()),  # relations are undirected: head < tail
        ("type", pa.string()),
        ("description", pa.string()),
        ("origin", pa.string()),
    ]
)
