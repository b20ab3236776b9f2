"""What a graph is made of, in figures: as data, as text, and as the picture of ColdRAG's figure 5."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from coldray.graph.store import GraphStore

_DEGREES = (0, 1, 2, 3, 5, 10, 20, 50, 100, 1000)
"""lower ends of the classes of degrees"""
_HUBS = 10


@dataclass(frozen=True)
class Stats:
    """Figures of a graph."""

    version: int
    items: int
    entities: int
    relations: int
    merged: int
    """names that another, nearly the same, stands for"""
    types: dict[str, int]
    """entities of each type, most first"""
    edges: npt.NDArray[np.int64]
    """[types, types] relations between the types, symmetric, in the order of `types`"""
    degrees: dict[str, int]
    """entities by number of relations"""
    mean_degree: float
    isolated: int
    """entities without a relation"""
    components: int
    """parts that nothing connects, the isolated left out"""
    largest: int
    """entities of the largest part"""
    hubs: list[tuple[str, str, int]]
    """type, name and relations of the best connected entities that are no items"""

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON-like data."""
        names = list(self.types)
        edges = {
            f"{one} - {other}": int(self.edges[i, j])
            for i, one in enumerate(names)
            for j, other in enumerate(names)
            if i <= j and self.edges[i, j]
        }
        return {**vars(self), "edges": edges, "hubs": [list(hub) for hub in self.hubs]}


def graph_stats(store: GraphStore) -> Stats:
    """Return the figures of a graph. Entities that are nearly the same count as one."""
    n = len(store.ids)
    own = store.leader == np.arange(n)
    counts = np.bincount(store.type_codes[own], minlength=len(store.types))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    place = np.full(len(store.types), -1)
    place[order] = np.arange(len(order))
    source = np.repeat(np.arange(n), store.degrees)
    pairs = place[store.type_codes[source]], place[store.type_codes[store.targets]]
    edges = np.zeros((len(order), len(order)), np.int64)
    np.add.at(edges, pairs, 1)
    edges[np.diag_indices(len(order))] //= 2  # both directions of an edge within a type fell on one field
    degrees = store.degrees[own]
    classes = np.digitize(degrees, _DEGREES) - 1
    links = coo_array((np.ones(len(source), np.int8), (source, store.targets)), shape=(n, n))
    _, part = connected_components(links, directed=False)
    sizes = np.bincount(part[own & (store.degrees > 0)]) if len(source) else np.zeros(1, np.int64)
    hubs = np.flatnonzero(own & ~store.is_item)
    hubs = hubs[np.argsort(-store.degrees[hubs], kind="stable")][:_HUBS]
    rows = store.entities(hubs).to_pylist()
    return Stats(
        version=store.manifest.version,
        items=store.manifest.counts["items"],
        entities=store.num_entities,
        relations=store.num_relations,
        merged=int(n - own.sum()),
        types={store.types[code]: int(counts[code]) for code in order},
        edges=edges,
        degrees={_class(i): int((classes == i).sum()) for i in range(len(_DEGREES))},
        mean_degree=float(degrees.mean()) if len(degrees) else 0.0,
        isolated=int((degrees == 0).sum()),
        components=int((sizes > 0).sum()),
        largest=int(sizes.max()),
        hubs=[
            (row["type"], row["name"], int(store.degrees[place]))
            for row, place in zip(rows, hubs, strict=True)
        ],
    )


def _class(i: int) -> str:
    low = _DEGREES[i]
    high = _DEGREES[i + 1] - 1 if i + 1 < len(_DEGREES) else None
    return f"{low}+" if high is None else str(low) if high == low else f"{low}-{high}"


def as_text(stats: Stats) -> str:
    """Return the figures as text for a terminal."""
    merged = f" ({stats.merged} more names mean one of them)" if stats.merged else ""
    lines = [
        f"version {stats.version}: {stats.items:,} items, {stats.entities:,} entities{merged}, {stats.relations:,} relations",
        f"{stats.mean_degree:.1f} relations an entity; {stats.isolated:,} entities have none; "
        f"{stats.components:,} connected parts, the largest with {stats.largest:,} entities",
        "",
        "type              entities  share   relations with "
        + "  ".join(f"{name[:11]:>11}" for name in stats.types),
    ]
    total = max(1, sum(stats.types.values()))
    for i, (name, count) in enumerate(stats.types.items()):
        row = "  ".join(f"{value:>11,}" for value in stats.edges[i])
        lines.append(f"{name[:16]:16}  {count:>8,}  {count / total:>5.1%}{'':18}{row}")
    lines += ["", "relations  entities"]
    lines += [f"{name:>9}  {count:>8,}" for name, count in stats.degrees.items() if count]
    lines += ["", "best connected"]
    lines += [f"  {count:>6,}  {name} ({kind})" for kind, name, count in stats.hubs]
    return "\n".join(lines)


def heat_map(stats: Stats) -> bytes:
    """Return a PNG: entities of each type, and relations between the types (ColdRAG, figure 5)."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second, and only the picture needs it

    names, edges = list(stats.types), stats.edges
    figure = Figure(figsize=(10, 0.5 * len(names) + 2.2), layout="constrained")
    bars, heat = figure.subplots(1, 2, width_ratios=(1, 1.6))
    total = max(1, sum(stats.types.values()))
    bars.barh(names, list(stats.types.values()), color="#3b6fb6")
    for i, count in enumerate(stats.types.values()):
        bars.text(count, i, f" {count:,} ({count / total:.0%})", va="center", fontsize=9)
    bars.set_xlim(0, 1.35 * max(stats.types.values(), default=1))
    bars.invert_yaxis()
    bars.set_title(f"{stats.entities:,} entities", fontsize=11)
    bars.spines[["top", "right"]].set_visible(False)
    heat.imshow(np.log1p(edges), cmap="Blues", aspect="auto")
    heat.set_xticks(range(len(names)), names, rotation=30, ha="right")
    heat.set_yticks(range(len(names)), names)
    dark = np.log1p(edges).max() / 2
    for i, j in np.ndindex(edges.shape):
        colour = "white" if np.log1p(edges[i, j]) > dark else "#333333"
        heat.text(j, i, f"{edges[i, j]:,}", ha="center", va="center", fontsize=9, color=colour)
    heat.set_title(f"{stats.relations:,} relations, by the types of their ends", fontsize=11)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()
