"""The wide work of a graph on Ray Data: items through the language model, descriptions through the sentence model.

An actor holds an engine and works on many items at a time, each of them first profiled, then extracted from, and asked
again at once where an answer does not do: one engine start a build, and no stage that waits for another's actors. Answers
are kept as they come, so that an actor that dies is replaced and its items cost nothing twice.
"""

import asyncio
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import ray.data
from pydantic import SecretStr
from ray.exceptions import RayActorError
from ray.util.annotations import RayDeprecationWarning

from coldray import storage
from coldray.encode.sentence_model import SentenceModel, TextEncoder
from coldray.errors import ServiceError, UserError
from coldray.graph.catalogue import read_item
from coldray.graph.extract import Contribution, Describer
from coldray.graph.settings import BuildSettings
from coldray.llm.answers import Answers, Remembering, Usage
from coldray.llm.engine import EngineDiedError
from coldray.llm.placement import ENVIRONMENT, Needs
from coldray.llm.settings import make_engine

Float32 = npt.NDArray[np.float32]

_TASKS, _SHARE = 24, 16
"""chunks that an actor works on at a time, and how many of them fill its engine: small ones, so that the first are done soon"""
_DEATHS = 3
"""of an engine's actor, after which the build ends; what died so often will again"""
_FEW = 4096
"""texts that this process embeds itself"""


@dataclass(frozen=True)
class Job:
    """What the actors need to know. Plain values: Ray carries it to them."""

    items: str
    """path of the catalogue's Parquet file"""
    columns: list[str]
    settings: BuildSettings
    answers: str
    """folder of the answers"""
    key: SecretStr | None
    attempt: int
    """0, or how often these items have failed before"""


Rows = list[tuple[int, int]]
"""row group and row of items in the catalogue's file, ascending"""


def describe(job: Job, rows: Rows) -> Iterator[Contribution]:
    """Yield what each item at `rows` brings to the graph, as it is done.

    Raises UserError where the cluster has no room for the engines or the model is none, ServiceError where an address is
    down or an engine dies again and again. What was answered by then is kept.
    """
    needs = Needs.of(job.settings.llm)
    needs.check(job.settings.engines)
    size = max(1, job.settings.llm.concurrency // _SHARE)
    chunks = [{"rows": np.array(rows[start : start + size], np.int64)} for start in range(0, len(rows), size)]
    actors = min(job.settings.engines, len(chunks))
    with warnings.catch_warnings():
        # Three of these options have no named parameter yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ray.data.from_items(
            chunks, override_num_blocks=len(chunks)
        ).map_batches(
            _Worker,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=_TASKS),
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_concurrency=_TASKS,
            max_restarts=_DEATHS,
            max_task_retries=-1,  # while a node's end is being noticed a chunk is tried in vain more often than an engine dies
            runtime_env={"env_vars": ENVIRONMENT},
        )
    try:
        for row in done.iter_rows():
            if row["service"]:
                raise ServiceError(row["fault"])
            if row["fault"]:
                raise UserError(row["fault"])
            made = json.loads(row["made"])
            yield Contribution(**made | {"usage": Usage(**made["usage"])})
    except RayActorError as error:
        raise ServiceError(
            f"llm: an engine died {_DEATHS + 1} times; the worker's log says why (ray logs), often too little memory"
        ) from error


class _Worker:
    """An actor: an engine, made when the first chunk needs it, and the row group read last."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.describer: Describer | None = None
        self.groups: dict[int, list[dict[str, Any]]] = {}

    async def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
        """Return a row for each item of a chunk. A mistake of the user comes back as a row, so that the driver can say it."""
        try:
            made = await self.describe([(int(group), int(row)) for group, row in batch["rows"][0]])
        except EngineDiedError:
            os._exit(1)  # Ray starts this actor anew, with a new engine, and gives it the chunk again
        except UserError as error:
            return {"made": [""], "fault": [str(error)], "service": [isinstance(error, ServiceError)]}
        return {
            "made": [json.dumps(asdict(item)) for item in made],
            "fault": [""] * len(made),
            "service": [False] * len(made),
        }

    async def describe(self, rows: Rows) -> list[Contribution]:
        """Return what the items at `rows` bring."""
        if self.describer is None:
            engine = make_engine(self.job.settings.llm, self.job.key)
            remembering = Remembering(engine, Answers(self.job.answers))
            self.describer = Describer(remembering, self.job.settings, self.job.attempt)
            self.answers = remembering.answers
        describer, job = self.describer, self.job
        items = [read_item(self.group(group)[row], job.columns, job.settings) for group, row in rows]
        made = await asyncio.gather(*(describer.describe(item) for item in items))
        self.answers.flush()
        return made

    def group(self, number: int) -> list[dict[str, Any]]:
        """Return the rows of a row group of the catalogue."""
        if number not in self.groups:
            file_system, path = storage.resolve(self.job.items)
            with (
                storage.reading_parquet(self.job.items),
                pq.ParquetFile(path, filesystem=file_system) as file,
            ):
                self.groups = {number: file.read_row_group(number).to_pylist()}
        return self.groups[number]


class Embedder:
    """The sentence model: a few texts are embedded here, many on Ray Data actors."""

    def __init__(self, model: SentenceModel, packaged: bool) -> None:
        self.name, self.revision = None if packaged else model.name, model.revision
        self._here = TextEncoder(self.name, self.revision)

    def __call__(self, texts: list[str]) -> Float32:
        """Return the embeddings of `texts`, [n, d], in their order, each of length 1."""
        if len(texts) <= _FEW:
            return self._here(texts)
        starts = range(0, len(texts), _FEW)
        chunks = [{"start": start, "texts": texts[start : start + _FEW]} for start in starts]
        cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]  # not typed in Ray
        done = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map_batches(
            _Encoder,
            fn_constructor_args=(self.name, self.revision),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(len(chunks), int(cores)))),
        )
        parts = {int(row["start"]): np.stack(row["vectors"]) for row in done.iter_rows()}
        return np.concatenate([parts[start] for start in starts])


class _Encoder:
    """The sentence model in an actor."""

    def __init__(self, name: str | None, revision: str | None) -> None:
        self.encode = TextEncoder(name, revision)

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
        return {"start": [int(batch["start"][0])], "vectors": [self.encode(list(batch["texts"][0]))]}
