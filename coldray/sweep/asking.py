"""What a cell of a method that asks a language model does: people, many at a time, and what was recommended to each."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs

from coldray import storage
from coldray.data.dataset import Sequences, Split
from coldray.evaluation import Evaluation
from coldray.graph.build import remove_items
from coldray.graph.stats import graph_stats
from coldray.graph.store import GraphStore
from coldray.llm.answers import Answers, Asks, Remembering, Usage
from coldray.llm.engine import Engine
from coldray.llm.settings import OpenAI
from coldray.sweep import artifacts as a
from coldray.sweep.methods import WALKING
from coldray.sweep.questions import Question
from coldray.zeroshot.catalogue import Catalogue, drawn
from coldray.zeroshot.coldrag import ColdRAG
from coldray.zeroshot.kalm4rec import KALM4Rec
from coldray.zeroshot.llmrank import LLMRank
from coldray.zeroshot.method import Method, Model, Person, Recommended
from coldray.zeroshot.settings import ZeroShotSettings
from coldray.zeroshot.taxrec import TaxRec

GROWTH = "growth.json"
_SECONDS = 2.0
"""between two reports"""


@dataclass
class Asked:
    """What became of all people of a cell."""

    people: list[Person]
    recommended: list[Recommended | None]
    """of each, None until it is there"""
    seconds: list[float]
    """of each, from the first question to the last answer, beside others"""
    prepared: Usage
    """what the method asked before the first person"""
    prepared_seconds: float = 0.0


def asked_of(split: Split, question: Question) -> Asked:
    """Return the test users of a split as methods see them, before anything is asked."""
    settings, test, people = question.settings, split.test, []
    for number in range(len(test)):
        whole = test.items[test.offsets[number] : test.offsets[number + 1]]
        newest = list(dict.fromkeys(whole[::-1].tolist()))[: settings.history][::-1]
        candidates = drawn(split.num_items, whole, settings.candidates, settings.candidate_seed, number)
        people.append(Person(number, newest, candidates, frozenset(whole.tolist())))
    return Asked(people, [None] * len(people), [0.0] * len(people), Usage())


def ask_all(
    asked: Asked,
    question: Question,
    seed: int,
    catalogue: Catalogue,
    make_engine: Callable[[], Engine],
    answers: str,
) -> Iterator[dict[str, float]]:
    """Ask for every person of `asked`; yield every few seconds how many are done. Answers are kept in the folder `answers`."""
    with asyncio.Runner() as runner:
        # An engine belongs to the event loop that it was made in, so each cell has its own.
        remembering = runner.run(_open(make_engine, answers))
        waiting: set[asyncio.Task[None]] = set()
        started: set[asyncio.Task[None]] = set()
        try:
            began = time.perf_counter()
            method, asked.prepared = runner.run(_method(question, catalogue, remembering))
            asked.prepared_seconds = time.perf_counter() - began
            waiting = runner.run(_start(asked, method, seed, question.settings.llm.concurrency))
            started = waiting
            while waiting:
                done, waiting = runner.run(_wait(waiting))
                for task in done:
                    task.result()
                yield {"users": float(sum(made is not None for made in asked.recommended))}
        finally:
            runner.run(_close(remembering, started))


async def _open(make_engine: Callable[[], Engine], answers: str) -> Remembering:
    return Remembering(make_engine(), Answers(answers))


async def _close(remembering: Remembering, started: set[asyncio.Task[None]]) -> None:
    """Let go of those who still wait, where one failed, and keep what was answered."""
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)
    await remembering.close()


async def _method(question: Question, catalogue: Catalogue, engine: Asks) -> tuple[Method, Usage]:
    """Return the method, made ready, and what that took."""
    model = Model(engine, question.settings)
    match question.method:
        case "taxrec":
            taxrec = TaxRec(model, catalogue)
            return taxrec, await taxrec.prepare()
        case "kalm4rec":
            return KALM4Rec(model, catalogue), Usage()
        case "coldrag" | "coldrag-constrained" | "coldrag-nearest":
            store = GraphStore.open(question.graph, (question.graph_version or {}).get("version"))
            store.hold()
            return ColdRAG(model, catalogue, store, question.method), Usage()
        case "llm" | "llmrank-sequential" | "llmrank-recency" | "llmrank-in-context":
            return LLMRank(model, catalogue, question.method), Usage()
        case _:
            raise ValueError(f"{question.method} asks no language model")


async def _start(asked: Asked, method: Method, seed: int, most: int) -> set[asyncio.Task[None]]:
    """Start asking for everybody, `most` at a time."""
    room = asyncio.Semaphore(most)

    async def ask(place: int) -> None:
        async with room:
            began = time.perf_counter()
            person = asked.people[place]
            asked.recommended[place] = await method.recommend(person, seed_of(seed, person.number))
            asked.seconds[place] = time.perf_counter() - began

    return {asyncio.ensure_future(ask(place)) for place in range(len(asked.people))}


def seed_of(seed: int, user: int) -> int:
    """Return the seed that a user's answers are drawn with in a run.

    Each has its own: an engine draws alike for all requests of one seed, so that one unlucky word would begin everybody's list.
    """
    return int(np.random.SeedSequence([seed, user]).generate_state(1)[0])


async def _wait(waiting: set[asyncio.Task[None]]) -> tuple[set[asyncio.Task[None]], set[asyncio.Task[None]]]:
    done, left = await asyncio.wait(waiting, timeout=_SECONDS)
    return done, left


def evaluation_of(test: Sequences, num_warm: int, asked: Asked) -> Evaluation:
    """Return the ranks of the targets among what was recommended, in the headline setting; 0 where a target is not."""
    targets = np.asarray(test.targets)
    ranks = np.zeros(len(test), np.int32)
    for place, made in enumerate(asked.recommended):
        items = [] if made is None else made.items
        if int(targets[place]) in items:
            ranks[place] = items.index(int(targets[place])) + 1
    none = np.zeros_like(ranks)
    return Evaluation(test.users, targets, targets > num_warm, ranks, none, none, none)


def table_of(test: Sequences, asked: Asked, catalogue: Catalogue) -> pa.Table:
    """Return recommended.parquet: one row a test user, with titles, so that it can be read without the data set."""
    made = [found or Recommended([]) for found in asked.recommended]
    titles = catalogue.titles
    usage = {name: [getattr(found.usage, name) for found in made] for name in a.USAGE}
    return pa.table(
        {
            "user_id": test.users,
            "history": [[titles[item] for item in person.history] for person in asked.people],
            "target": [titles[item] for item in np.asarray(test.targets).tolist()],
            "items": pa.array([found.items for found in made], pa.list_(pa.int32())),
            "titles": pa.array(
                [[titles[item] for item in found.items] for found in made], pa.list_(pa.string())
            ),
            "evidence": pa.array([found.evidence for found in made], pa.list_(pa.string())),
            "written": pa.array([found.written for found in made], pa.list_(pa.string())),
            "unknown": pa.array([found.unknown for found in made], pa.int32()),
            "seconds": asked.seconds,
            **usage,
        }
    )


def metrics_of(table: pa.Table, prepared: Usage, prices: tuple[float, float]) -> dict[str, float]:
    """Return what a run says of what was asked: means over users; prices are of a million tokens read and written."""
    users = max(1, table.num_rows)
    total = {name: float(np.sum(table[name].to_numpy())) for name in a.USAGE}
    lists = table["written"].combine_chunks()
    written = float(len(lists.flatten()))
    unknown = float(np.sum(table["unknown"].to_numpy()))
    cost = (total["prompt_tokens"] * prices[0] + total["completion_tokens"] * prices[1]) / 1e6
    made = {f"{name}_per_user": value / users for name, value in total.items()}
    made |= {"prepared_tokens": float(prepared.prompt_tokens + prepared.completion_tokens)}
    made |= {"cost_per_user": cost / users} if any(prices) else {}
    return made | ({"hallucination_rate": unknown / written} if written else {})


def prices_of(settings: ZeroShotSettings) -> tuple[float, float]:
    """Return the prices of a million tokens read and written, 0 where the model has none."""
    llm = settings.llm
    return (llm.input_price, llm.output_price) if isinstance(llm, OpenAI) else (0.0, 0.0)


def grow(question: Question, split: Split, folder: str) -> Question:
    """Return the question with the version of a growing graph that it is about.

    The graph is copied to `folder` once, and the cold items are taken out of the copy step by step: each version is what the
    graph would be before the items of that step and later ones came. Asks no model.
    """
    step, steps = question.growth
    record = storage.join(folder, GROWTH)
    if not storage.exists(record):
        source, inside = storage.resolve(question.graph)
        target, there = storage.resolve(folder)
        if target.get_file_info(there).type == fs.FileType.Directory:  # of an attempt that was killed
            target.delete_dir(there)
        fs.copy_files(inside, there, source_filesystem=source, destination_filesystem=target)
        cold = split.item_ids.slice(split.num_warm).to_pylist()
        cold = [cold[i] for i in np.random.default_rng(0).permutation(len(cold))]
        store = GraphStore.open(folder)
        cold = [item for item, place in zip(cold, store.items(cold), strict=True) if place >= 0]
        versions = [store.manifest.version]
        for part in reversed(np.array_split(np.array(cold, object), steps)):
            if len(part):
                remove_items(folder, part.tolist())
            versions.append(GraphStore.open(folder).manifest.version)
        storage.write_json(record, {"versions": versions[::-1]})
    version = storage.read_json(record)["versions"][step]
    known = {"version": version}
    return Question(question.method, question.settings, question.model, folder, known, question.varied)


def graph_record(question: Question) -> dict[str, Any] | None:
    """Return the figures of the graph that a cell walks, for graph.json."""
    if question.method not in WALKING:
        return None
    return graph_stats(
        GraphStore.open(question.graph, (question.graph_version or {}).get("version"))
    ).as_json()
