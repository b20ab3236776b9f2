"""A few items into a graph, or out of it, while it is served: from rows to a new version, all or nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coldray.data import columns as c
from coldray.errors import ServiceError, UserError
from coldray.graph.build import tables_of
from coldray.graph.catalogue import CatalogueItem, content_of, read_item
from coldray.graph.extract import Contribution, Describer, recipe_of
from coldray.graph.settings import BuildSettings
from coldray.graph.store import writing
from coldray.graph.store.writer import Embed, contents_of
from coldray.llm.answers import Asks

ADDED, CHANGED, UNCHANGED, FAILED = "added", "changed", "unchanged", "failed"


@dataclass(frozen=True)
class Inserted:
    """What became of items."""

    version: int
    """of the graph, in which they are"""
    status: dict[str, str]
    """of each item: added, changed, unchanged or failed"""
    errors: dict[str, str]
    """why the failed ones failed; they are as they were before"""


async def insert_items(
    graph: str,
    rows: Sequence[dict[str, Any]],
    settings: BuildSettings,
    engine: Asks,
    identity: str,
    embed: Embed,
    turn: asyncio.Lock,
) -> Inserted:
    """Describe items and write them as one new version.

    A row has `item_id` and any fields; one that is in the graph with the same fields is left alone. `identity` is that of the
    model, which is asked at once; the writing waits for its `turn`. An item whose answers do not do is not written at all.
    Raises ServiceError where the model cannot be reached or another process is writing, and then nothing is written.
    """
    recipe = recipe_of(settings, identity)
    items, contents = {}, {}
    for row in rows:
        item, content = _read(row, settings, recipe)
        items[item.item_id], contents[item.item_id] = item, content
    there = await asyncio.to_thread(contents_of, graph, list(items))
    wanted = [item for item in items.values() if there.get(item.item_id) != contents[item.item_id]]
    describer = Describer(engine, settings)
    made = await asyncio.gather(*(describer.describe(item) for item in wanted))
    good = [of for of in made if not of.failed]
    async with turn:
        version = await asyncio.to_thread(write, graph, good, contents, [], embed, settings.merge_above)
    status = {item: UNCHANGED for item in items}
    for of in made:
        status[of.item_id] = FAILED if of.failed else CHANGED if of.item_id in there else ADDED
    return Inserted(version, status, {of.item_id: f"{of.failed}: {of.error}" for of in made if of.failed})


def _read(row: dict[str, Any], settings: BuildSettings, recipe: str) -> tuple[CatalogueItem, str]:
    columns = (
        list(settings.columns) if settings.columns is not None else [name for name in row if name != c.ITEM]
    )
    whole = dict.fromkeys([*columns, *settings.entities]) | row
    return read_item(whole, columns, settings), content_of(whole, columns, recipe)


def write(
    graph: str,
    made: list[Contribution],
    contents: dict[str, str],
    removed: Sequence[str],
    embed: Embed,
    merge_above: float,
) -> int:
    """Write what items bring and take others out; return the version that has it so.

    Raises UserError for an item to remove that is not there, ServiceError while another process is writing.
    """
    with writing(graph, _refuse) as writer:
        there = writer.contents(removed)
        for item in removed:
            if item not in there:
                raise UserError(f"{item}: is no item of the graph; nothing was removed")
        if made or removed:
            writer.apply(*tables_of(made, contents), removed, embed, merge_above)
            return writer.commit(f"{len(made)} written, {len(removed)} removed by the service")
        return writer.manifest.version if writer.manifest is not None else 0


def _refuse(message: str) -> None:
    raise ServiceError(f"{message.removesuffix('; waiting until that is done')}; try again later")
