"""Encoding the catalogue: one Ray Data stage of actors, each with the model, over chunks of the items.

A chunk is a run of rows of items.parquet. An actor reads it, makes the texts, and writes the vectors as a
part addressed by what made it; a part that is there already is not made again. The driver sees counts only.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from coldray import storage
from coldray.data import columns as c
from coldray.data.dataset import read_manifest
from coldray.data.prepare import start_ray
from coldray.encode import embeddings
from coldray.encode.embeddings import Float32, Part
from coldray.encode.sentence_model import BATCH, SentenceModel, find_model, load_model
from coldray.encode.text import TextRecipe, item_texts
from coldray.errors import UserError
from coldray.settings import digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK = 4096
# One actor's matrix products gain little beyond this many cores; more actors do.
_CORES = 4
_CHUNKS_PER_ACTOR = 4

_FIELDS = [field.name for field in fields(Part)]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What the actors need to know. Plain values: Ray carries it to them."""

    items: str
    """path of items.parquet"""
    folder: str
    """where the parts go"""
    text: TextRecipe
    model: SentenceModel
    packaged: bool
    """whether the model is the packaged one, which every node finds for itself"""
    device: str | None
    batch_size: int

    @property
    def recipe(self) -> dict[str, Any]:
        """What determines the vectors of a text."""
        return {"model": self.model.content, "text": self.text.model_dump(mode="json")}


@dataclass(frozen=True)
class Encoded:
    """What `encode_items` did."""

    manifest: dict[str, Any]
    encoded: int
    """items encoded now; the rest was there"""
    up_to_date: bool
    """whether there was nothing to do"""


def encode_items(
    dataset: str,
    name: str,
    model: str | None = None,
    text: TextRecipe = TextRecipe(),  # noqa: B008 - frozen
    *,
    device: str | None = None,
    batch_size: int = BATCH,
    chunk_size: int = CHUNK,
    progress: Progress = lambda done, total: None,
) -> Encoded:
    """Encode the text of every item of the data set folder `dataset` with a sentence model.

    The result is in DATASET/embeddings/NAME, [count] rows of item_id and embedding (float32, length as the
    model gives it); items without text get zero vectors and are counted. Interrupted, the next call goes on
    where this one stopped; with the same recipe, model and data it returns at once. `model` is a folder, a
    name of the hub, or None for the packaged MiniLM. `progress` is called with items done and in all.
    Ray is started on this machine unless this process is connected to one. Raises UserError for a bad
    data set, column or model.
    """
    folder = embeddings.embedding_folder(dataset, name)
    source = read_manifest(dataset, "a data set", "make it with: coldray data prepare")
    job = Job(
        items=storage.join(dataset, "items.parquet"),
        folder=folder,
        text=text,
        model=find_model(model),
        packaged=model is None,
        device=device,
        batch_size=batch_size,
    )
    recipe = {"source": "model", "dataset": source["fingerprint"], **job.recipe}
    recipe["model"] = {"name": job.model.name, "revision": job.model.revision, "content": job.model.content}
    finished = embeddings.up_to_date(folder, recipe)
    if finished is not None:
        return Encoded(finished, 0, True)
    ids = embeddings.catalogue_ids(dataset)
    if not len(ids):
        raise UserError(f"{job.items}: has no rows; there is nothing to encode")
    parts: dict[int, Part] = {}
    encoded = 0
    start_ray()
    progress(0, len(ids))
    for row in _run(job, list(_chunks(job.items, chunk_size))):
        if row["error"]:
            raise UserError(row["error"])
        parts[row["start"]] = Part(**{field: row[field] for field in _FIELDS})
        encoded += row["encoded"]
        progress(sum(part.count for part in parts.values()), len(ids))
    manifest = embeddings.publish(folder, [parts[start] for start in sorted(parts)], recipe)
    return Encoded(manifest, encoded, False)


def _chunks(items: str, size: int) -> Iterator[dict[str, int]]:
    """Yield the chunks of the items table: a run of rows of a row group. Reads the footer only."""
    file_system, path = storage.resolve(items)
    with storage.reading_parquet(items), pq.ParquetFile(path, filesystem=file_system) as file:
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    before = 0
    for group, count in enumerate(counts):
        for start in range(0, count, size):
            yield {
                "group": group,
                "offset": start,
                "length": min(size, count - start),
                "start": before + start,
            }
        before += count


def _run(job: Job, chunks: list[dict[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield one row of counts for each chunk as it is done."""
    cores, gpus, actors = _resources(len(chunks), job.device)
    table = ray.data.from_items(chunks, override_num_blocks=len(chunks))
    done = table.map_batches(
        _Encoder,
        fn_constructor_args=(job,),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cores,
        num_gpus=gpus,
    )
    yield from done.iter_rows()


def _resources(num_chunks: int, device: str | None) -> tuple[float, float, int]:
    """Return the cores and GPUs of an actor, and the number of actors: one on small data."""
    most = max(1, -(-num_chunks // _CHUNKS_PER_ACTOR))
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # not typed in Ray
    if total.get("GPU", 0) >= 1 and device != "cpu":
        return 1, 1, min(most, int(total["GPU"]))
    if device is not None and device.startswith("cuda"):
        raise UserError(f"--device {device}: this Ray cluster has no GPU; take --device cpu")
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # not typed in Ray
    largest = max(node["Resources"].get("CPU", 0) for node in nodes if node["Alive"])
    cores = max(1, min(_CORES, int(largest)))
    return cores, 0, max(1, min(most, int(total.get("CPU", 1) // cores)))


class _Encoder:
    """An actor: the model, loaded when the first chunk needs it, and the row group read last."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model: SentenceTransformer | None = None
        self.group = -1
        self.table = pa.table({})

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
        """Encode one chunk. A mistake of the user comes back as a row, so that the driver can say it."""
        chunk = {key: int(values[0]) for key, values in batch.items()}
        part, encoded, message = Part("", 0, 0, 0, ""), 0, ""
        try:
            part, encoded = self.encode(chunk["group"], chunk["offset"], chunk["length"])
        except UserError as error:
            message = str(error)
        row = {**asdict(part), "start": chunk["start"], "encoded": encoded, "error": message}
        return {key: [value] for key, value in row.items()}

    def encode(self, group: int, offset: int, length: int) -> tuple[Part, int]:
        """Return the part of a chunk, and how many of its items were encoded now."""
        items = self.rows(group).slice(offset, length)
        ids = items[c.ITEM].cast(pa.string()).combine_chunks()
        texts = item_texts(items, self.job.text, self.job.items)
        made_of = hashlib.sha256(json.dumps([ids.to_pylist(), texts]).encode()).hexdigest()
        address = digest({**self.job.recipe, "made_of": made_of})
        finished = embeddings.finished_part(self.job.folder, address, ids, texts.count(""))
        if finished is not None:
            return finished, 0
        vectors = embeddings.check_vectors(self.vectors(texts), f"model {self.job.model.name}")
        return embeddings.write_part(self.job.folder, address, ids, vectors, texts.count("")), len(ids)

    def rows(self, group: int) -> pa.Table:
        """Return a row group of the items table: item ids and the columns of the text."""
        if group != self.group:
            file_system, path = storage.resolve(self.job.items)
            with (
                storage.reading_parquet(self.job.items),
                pq.ParquetFile(path, filesystem=file_system) as file,
            ):
                known = set(file.schema_arrow.names)
                wanted = [name for name in (c.ITEM, *self.job.text.columns) if name in known]
                self.table = file.read_row_group(group, columns=list(dict.fromkeys(wanted)))
            self.group = group
        return self.table

    def vectors(self, texts: list[str]) -> Float32:
        """Return the vectors of `texts`, [n, d]; zeros for an empty text, which is similar to nothing."""
        if self.model is None:
            name = None if self.job.packaged else self.job.model.name
            self.model = load_model(name, self.job.model.revision, self.job.device)
        made = self.model.encode(
            [text for text in texts if text] or [""],  # one, to learn the length of a vector
            batch_size=self.job.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        vectors = np.zeros((len(texts), made.shape[1]), np.float32)
        filled = np.array([bool(text) for text in texts])
        vectors[filled] = made[: filled.sum()]
        return vectors
