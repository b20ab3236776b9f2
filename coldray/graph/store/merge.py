"""What mentions say together. An entity or relation is a function of the set of its mentions, in whatever order they came.

It keeps a sample of its mentions, those with the smallest hashes, so that what a hub costs does not depend on how many
items mention it: a mention that comes is compared with the sample, and only where one of the sample goes are the others
looked at again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from coldray.graph.names import number
from coldray.graph.store.tables import SAMPLE

Row = dict[str, Any]


def hash_of(mention: Row, key: str) -> int:
    """Return the hash of a mention: of its item, what it mentions, and what it says."""
    return number(mention["item_id"], str(mention[key]), mention.get("name", ""), mention["description"])


def merged(
    rows: dict[int, Row],
    gone: Iterable[Row],
    new: Iterable[Row],
    key: str,
    refill: Callable[[list[int]], dict[int, list[Row]]],
) -> dict[int, Row | None]:
    """Return the rows, by id, that mentions change, None for those that nothing mentions any more.

    `rows` are those that are there of the ids mentioned; `gone` and `new` are mentions taken back and brought, under
    `key` the id. `refill` gives the mentions with the smallest hashes of ids, after the change: it is asked only for ids
    whose sample lost one that others have to take the place of.
    """
    taken, brought = defaultdict(list), defaultdict(list)
    for mention in gone:
        taken[mention[key]].append(mention)
    for mention in new:
        brought[mention[key]].append(mention)
    made: dict[int, Row | None] = {}
    wanting = []
    for of in dict.fromkeys([*taken, *brought]):
        before = rows.get(of)
        count = (before["mentions"] if before else 0) - len(taken[of]) + len(brought[of])
        if count == 0:
            made[of] = None
            continue
        lost = {mention["hash"] for mention in taken[of]}
        kept = [entry for entry in (before["sample"] if before else []) if entry["hash"] not in lost]
        if before and len(kept) < len(before["sample"]) and before["mentions"] > len(before["sample"]):
            wanting.append(of)
        sample = _smallest([*kept, *map(_entry, brought[of])])
        made[of] = _row(of, count, sample, before or brought[of][0])
    for of, mentions in (refill(wanting) if wanting else {}).items():
        row = made[of]
        if row is not None:
            made[of] = _row(of, row["mentions"], _smallest(map(_entry, mentions)), row)
    return made


def _row(of: int, count: int, sample: list[Row], like: Row) -> Row:
    """Return a row from its sample; ends of a relation are those of `like`."""
    ends: Row = {end: like[end] for end in ("head", "tail") if end in like}
    described = list(dict.fromkeys(entry["description"] for entry in sample if entry["description"]))
    name: Row = {} if ends else {"name": sample[0]["name"]}
    told = {"type": sample[0]["type"], "description": "\n".join(described)}
    return {"id": of, **ends, **name, **told, "mentions": count, "sample": sample}


def _entry(mention: Row) -> Row:
    return {
        "hash": mention["hash"],
        "type": mention["type"],
        "name": mention.get("name", ""),
        "description": mention["description"],
    }


def _smallest(entries: Iterable[Row]) -> list[Row]:
    return sorted(entries, key=lambda entry: int(entry["hash"]))[:SAMPLE]


def text_of(row: Row) -> str:
    """Return what an entity's or relation's vector is made from."""
    name = row.get("name", "")
    return f"{name}: {row['description']}" if name and row["description"] else name or row["description"]
