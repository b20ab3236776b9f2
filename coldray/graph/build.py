"""From a catalogue to its graph, and from a changed catalogue to the changed graph: only what changed is asked and written.

GRAPH/answers/part-*.parquet    every answer of the language model (coldray.llm.answers)
GRAPH/failed.parquet            items of which something could not be made: item_id, stage, error, answer, attempts
GRAPH/build.json                settings of the newest build
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr

from coldray import storage
from coldray.data import columns as c
from coldray.encode.sentence_model import find_model
from coldray.errors import UserError
from coldray.graph.catalogue import TITLE, content_of, text_columns
from coldray.graph.extract import Contribution, recipe_of
from coldray.graph.names import item_entity_id
from coldray.graph.pipeline import Embedder, Job, Rows, describe
from coldray.graph.schema import ENTITY_MENTIONS, ITEMS, RELATION_MENTIONS
from coldray.graph.settings import BuildSettings
from coldray.graph.store import Writer, writing
from coldray.llm.answers import Usage, compact
from coldray.llm.settings import OpenAI, identity_of

APPLY = 5000
"""items written at a time; what a build holds in memory at once"""

FAILED = pa.schema(
    [
        ("item_id", pa.string()),
        ("stage", pa.string()),  # the prompt that was asked
        ("error", pa.string()),
        ("answer", pa.string()),
        ("attempts", pa.int64()),
    ]
)

Scope = Literal["catalogue", "items", "failed"]
Progress = Callable[[int, int, Usage], None]


@dataclass
class Built:
    """What a build did."""

    version: int = 0
    """of the graph; 0 if nothing had to be done and there is none"""
    described: int = 0
    """items that the language model was asked about"""
    removed: int = 0
    unchanged: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """items by the stage that failed"""
    dropped_relations: int = 0
    """relations of answers that name an entity which the answer does not have"""
    copied: int = 0
    """names and sentences that answers took from the prompt's example; left out"""
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    """in the currency of the prices"""
    seconds: float = 0.0
    answering: float = 0.0
    """seconds of these from the first question to the last answer, without the model's start"""


@dataclass(frozen=True)
class Plan:
    """What of a catalogue has to be done."""

    rows: Rows
    """items to describe"""
    contents: dict[str, str]
    """the hash of what these items are made of, by id"""
    removed: list[str]
    unchanged: int


def build_graph(
    items: str,
    graph: str,
    settings: BuildSettings,
    *,
    key: SecretStr | None = None,
    scope: Scope = "catalogue",
    limit: int | frozenset[str] | None = None,
    progress: Progress = lambda done, total, usage: None,
    waiting: Callable[[str], None] = lambda message: None,
) -> Built:
    """Bring the graph at the folder `graph` to what the catalogue in the Parquet file `items` says.

    Items that are new or changed, in their row or in the settings, are described. Of the scope `catalogue` those that it no
    longer has are removed; of `items`, which are only some, none is; of `failed` only items that failed before are
    described. `limit` takes the catalogue's first items alone, or those with these ids.
    One process builds a graph at a time; another waits. What was answered by the time of an interruption is not asked
    again. Raises UserError for a catalogue or setting that does not do, ServiceError if the model cannot be reached.
    """
    began = time.monotonic()
    columns = text_columns(_schema(items), settings, items)
    recipe = recipe_of(settings, identity_of(settings.llm, key))
    model = find_model(settings.sentence_model)
    with storage.exclusive(graph, "building", waiting):
        failed = read_failed(graph)
        with writing(graph, waiting) as writer:
            if writer.manifest is not None:
                _check_same_space(graph, settings)
            if scope == "failed":
                plan = only(items, columns, recipe, {row["item_id"] for row in failed})
            else:
                plan = make_plan(items, columns, recipe, writer.contents(), limit)
            if scope == "items":
                plan = replace(plan, removed=[])
            built = Built(removed=len(plan.removed), unchanged=plan.unchanged)
            attempt = max((row["attempts"] for row in failed), default=0) if scope == "failed" else 0
            job = Job(
                items, columns, settings, storage.join(storage.absolute(graph), "answers"), key, attempt
            )
            embed = Embedder(model, settings.sentence_model is None)
            new = run(job, plan, writer, embed, built, progress)
            if plan.rows or plan.removed:
                built.version = writer.commit(f"{built.described} described, {built.removed} removed")
            elif writer.manifest is not None:
                built.version = writer.manifest.version
        gone = {*plan.contents, *plan.removed}
        write_failed(graph, [row for row in failed if row["item_id"] not in gone], new, attempt)
        storage.write_json(storage.join(graph, "build.json"), settings.model_dump(mode="json"))
        compact(job.answers)
    built.cost = cost_of(built.usage, settings)
    built.seconds = time.monotonic() - began
    return built


def run(
    job: Job, plan: Plan, writer: Writer, embed: Embedder, built: Built, progress: Progress
) -> list[Contribution]:
    """Describe the items of a plan and apply them, a few thousand at a time. Returns those that failed."""
    failed: list[Contribution] = []
    waiting: list[Contribution] = []
    removed = plan.removed
    spans: tuple[float, float] | None = None
    progress(0, len(plan.rows), built.usage)
    for made in describe(job, plan.rows) if plan.rows else ():
        waiting.append(made)
        built.described += 1
        built.dropped_relations += made.dropped
        built.copied += made.copied
        built.usage.add(made.usage)
        spans = (min(made.began, spans[0]), max(made.ended, spans[1])) if spans else (made.began, made.ended)
        built.answering = spans[1] - spans[0]
        if made.failed:
            built.failed[made.failed] = built.failed.get(made.failed, 0) + 1
            failed.append(made)
        if len(waiting) == APPLY:
            writer.apply(*tables_of(waiting, plan.contents), removed, embed, job.settings.merge_above)
            waiting, removed = [], []
        progress(built.described, len(plan.rows), built.usage)
    if waiting or removed:
        writer.apply(*tables_of(waiting, plan.contents), removed, embed, job.settings.merge_above)
    return failed


def remove_items(
    graph: str, item_ids: Sequence[str], waiting: Callable[[str], None] = lambda message: None
) -> Built:
    """Take items out of the graph, with all that only they brought. Asks no language model.

    Raises UserError if one of them is not in the graph, and then takes none out.
    """
    began = time.monotonic()
    settings = read_settings(graph)
    embed = Embedder(find_model(settings.sentence_model), settings.sentence_model is None)
    ids = list(dict.fromkeys(item_ids))
    with storage.exclusive(graph, "building", waiting):
        with writing(graph, waiting) as writer:
            known = writer.contents()
            for item in ids:
                if item not in known:
                    raise UserError(f"{item}: is no item of the graph {graph}; nothing was removed")
            writer.apply(*tables_of([], {}), ids, embed, settings.merge_above)
            version = writer.commit(f"{len(ids)} removed")
        write_failed(graph, [row for row in read_failed(graph) if row["item_id"] not in ids], [], 0)
    return Built(version, removed=len(ids), unchanged=len(known) - len(ids), seconds=time.monotonic() - began)


def make_plan(
    items: str, columns: list[str], recipe: str, known: dict[str, str], limit: int | frozenset[str] | None
) -> Plan:
    """Return what of the catalogue has to be done, given the `content` of the items that the graph has."""
    first = limit if isinstance(limit, int) else None
    wanted = limit if isinstance(limit, frozenset) else None
    rows: Rows = []
    contents: dict[str, str] = {}
    seen: set[str] = set()
    for group, number, row in catalogue_rows(items, columns, first):
        item_id = str(row[c.ITEM])
        if wanted is not None and item_id not in wanted:
            continue
        if item_id in seen:
            raise UserError(f"{items}: has the item {item_id} twice; give each item one row")
        seen.add(item_id)
        content = content_of(row, columns, recipe)
        if known.get(item_id) != content:
            contents[item_id] = content
            rows.append((group, number))
    return Plan(rows, contents, [item for item in known if item not in seen], len(seen) - len(rows))


def only(items: str, columns: list[str], recipe: str, wanted: set[str]) -> Plan:
    """Return a plan of the items `wanted` alone, whether they changed or not."""
    rows, contents, others = [], {}, 0
    for group, number, row in catalogue_rows(items, columns, None):
        item_id = str(row[c.ITEM])
        if item_id in wanted:
            rows.append((group, number))
            contents[item_id] = content_of(row, columns, recipe)
        else:
            others += 1
    return Plan(rows, contents, [], others)


def catalogue_rows(
    items: str, columns: list[str], limit: int | None
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield row group, row and content of the catalogue's items, of a row group at a time."""
    file_system, path = storage.resolve(items)
    left = limit
    with storage.reading_parquet(items), pq.ParquetFile(path, filesystem=file_system) as file:
        wanted = [
            name for name in dict.fromkeys([c.ITEM, TITLE, *columns]) if name in file.schema_arrow.names
        ]
        for group in range(file.num_row_groups):
            for number, row in enumerate(file.read_row_group(group, columns=wanted).to_pylist()):
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield group, number, row


def tables_of(made: list[Contribution], contents: dict[str, str]) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return what items bring as the tables of `coldray.graph.schema`."""
    items = [
        {
            "item_id": of.item_id,
            "entity": item_entity_id(of.item_id),
            "title": of.title,
            "content": contents[of.item_id],
            "profile": of.profile,
        }
        for of in made
    ]
    entities = [{"item_id": of.item_id, **row} for of in made for row in of.entities]
    relations = [{"item_id": of.item_id, **row} for of in made for row in of.relations]
    return (
        pa.Table.from_pylist(items, ITEMS),
        pa.Table.from_pylist(entities, ENTITY_MENTIONS),
        pa.Table.from_pylist(relations, RELATION_MENTIONS),
    )


def read_failed(graph: str) -> list[dict[str, Any]]:
    """Return the items of which something could not be made, as rows of `FAILED`."""
    path = storage.join(graph, "failed.parquet")
    rows: list[dict[str, Any]] = storage.read_table(path).to_pylist() if storage.exists(path) else []
    return rows


def write_failed(graph: str, kept: list[dict[str, Any]], new: list[Contribution], attempt: int) -> None:
    """Write the items of which something could not be made."""
    rows = [
        {
            "item_id": of.item_id,
            "stage": of.failed,
            "error": of.error,
            "answer": of.answer,
            "attempts": attempt + 2,
        }
        for of in new
    ]
    storage.write_table(storage.join(graph, "failed.parquet"), pa.Table.from_pylist([*kept, *rows], FAILED))


def read_settings(graph: str) -> BuildSettings:
    """Return the settings of the newest build. Raises UserError if there is none."""
    path = storage.join(graph, "build.json")
    if not storage.exists(path):
        raise UserError(f"{graph}: holds no graph; make one with: coldray graph build")
    return BuildSettings.model_validate(storage.read_json(path))


def _check_same_space(graph: str, settings: BuildSettings) -> None:
    """Raise UserError where the graph's vectors or its merged names would be of two kinds."""
    old = read_settings(graph)
    for name in ("sentence_model", "merge_above"):
        was, now = getattr(old, name), getattr(settings, name)
        if was != now:
            raise UserError(
                f"{name}: the graph {graph} was built with {was or 'the packaged model'}, not "
                f"{now or 'the packaged model'}; keep that, or name another --graph, with a copy of this one's "
                "answers/ so that nothing is asked again"
            )


def cost_of(usage: Usage, settings: BuildSettings) -> float:
    """Return what the tokens cost at the prices of an OpenAI address; 0 elsewhere."""
    if not isinstance(settings.llm, OpenAI):
        return 0.0
    spent = (
        usage.prompt_tokens * settings.llm.input_price + usage.completion_tokens * settings.llm.output_price
    )
    return spent / 1e6


def _schema(items: str) -> pa.Schema:
    file_system, path = storage.resolve(items)
    with storage.reading_parquet(items), pq.ParquetFile(path, filesystem=file_system) as file:
        schema: pa.Schema = file.schema_arrow
    if c.ITEM not in schema.names:
        raise UserError(f"{items}: has no column {c.ITEM}; make the catalogue with: coldray data prepare")
    return schema
