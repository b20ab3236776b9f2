"""From a history to places in the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldray.graph.store import GraphStore

Float32 = npt.NDArray[np.float32]
Embed = Callable[[list[str]], Float32]

_LARGE = 1_000_000
"""entities up to which texts may stand for any of them"""
_LEAST = 0.25
"""cosine from which a text is taken to mean an entity"""


@dataclass(frozen=True)
class Anchors:
    """A history in the graph, oldest first."""

    given: list[str]
    positions: npt.NDArray[np.int64]
    """[n] entity of each; no two alike"""
    similarities: Float32
    """[n] 1 for an id or title, else the cosine of texts"""
    texts: list[str]
    """what each is called: its title, or the text that was given"""
    query: Float32
    """[d] of length 1, the mean of their vectors"""
    unknown: list[str]


def is_large(store: GraphStore) -> bool:
    """Return whether texts stand for items alone, as an index over all entities would take minutes to make."""
    return len(store.ids) > _LARGE


def find_anchors(store: GraphStore, history: Sequence[str], most: int, embed: Embed | None) -> Anchors:
    """Return where the newest `most` of a history stand (ColdRAG, section 3.2).

    Each is an item's id, an item's title, or any text, for which the entity with the nearest description stands, in a
    large graph the item. Without `embed` texts that are no title remain unknown. What is given twice counts where it was
    given last.
    """
    given = list(dict.fromkeys(reversed(history)))[:most][::-1]
    positions = store.items(given)
    positions = np.where(positions < 0, -1, store.leader[positions])
    similarities = np.ones(len(given), np.float32)
    unknown = [i for i in range(len(given)) if positions[i] < 0]
    if unknown:
        positions[unknown] = store.titled([given[i] for i in unknown])
    unknown = [i for i in unknown if positions[i] < 0 and given[i].strip()]
    if unknown and embed is not None and len(store.ids):
        found, cosines = store.search(embed([given[i] for i in unknown]), 1, items_only=is_large(store))
        near = cosines[:, 0] >= _LEAST
        positions[unknown] = np.where(near, found[:, 0], -1)
        similarities[unknown] = cosines[:, 0]
    _, first = np.unique(positions[::-1], return_index=True)
    kept = np.sort(len(given) - 1 - first)
    kept = kept[positions[kept] >= 0]
    names = store.entities(positions[kept])["name"].to_pylist()
    texts = [name if similarities[i] == 1 else given[i] for i, name in zip(kept.tolist(), names, strict=True)]
    vectors = store.entity_vectors(positions[kept])
    query = vectors.sum(axis=0) if len(vectors) else np.zeros(store.manifest.dim, np.float32)
    length = float(np.linalg.norm(query))
    return Anchors(
        [given[i] for i in kept.tolist()],
        positions[kept],
        similarities[kept],
        texts,
        query / length if length else query,
        [text for text, position in zip(given, positions, strict=True) if position < 0],
    )
