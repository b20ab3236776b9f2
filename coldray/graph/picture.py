"""What is around an item: as text, as data, and as a picture in one HTML file that needs nothing else."""

from dataclasses import dataclass
from typing import Any

import jinja2
import networkx as nx
import numpy as np

from coldray.errors import UserError
from coldray.graph.store import GraphStore

_TOLD = ("type", "name", "description")
_MOST = 60
"""entities of a picture; of more the best connected are left out first"""
_WIDTH, _HEIGHT = 1100, 760
_COLOURS = ("#3b6fb6", "#d9822b", "#4a9c5d", "#b3475d", "#7d5fb2", "#8a6d3b", "#3a9aa8", "#777777")


@dataclass(frozen=True)
class Around:
    """An item's neighbourhood to two hops: its entities, and the items that share them."""

    nodes: list[dict[str, Any]]
    """id, item_id, type, name, description, hops; the item first"""
    edges: list[dict[str, Any]]
    """source and target (index into `nodes`), type, description"""
    left_out: int
    """entities that were too many"""


def around(store: GraphStore, item_id: str, most: int = _MOST) -> Around:
    """Return what is around an item. Raises UserError if the graph does not have it."""
    (place,) = store.items([item_id])
    if place < 0:
        raise UserError(
            f"{item_id}: is no item of the graph {store.uri}; coldray graph stats says how many it has"
        )
    centre = int(store.leader[place])
    near = [int(p) for p in dict.fromkeys(store.hop([centre]).target.tolist())]
    # What few share says more of an item than what all share.
    near.sort(key=lambda position: (store.degrees[position], position))
    chosen = [centre, *near[: most - 1]]
    beyond = [int(p) for p in dict.fromkeys(store.hop(chosen[1:]).target.tolist()) if p not in set(chosen)]
    room = most - len(chosen)
    left_out = len(near) + 1 - len(chosen) + max(0, len(beyond) - room)
    chosen += beyond[:room]
    index = {position: i for i, position in enumerate(chosen)}
    rows = store.entities(chosen).to_pylist()
    ids = store.item_ids(chosen)
    hops = [0 if i == 0 else 1 if position in set(near) else 2 for i, position in enumerate(chosen)]
    nodes = [
        {"id": str(row["id"]), "item_id": item, "hops": hop, **{name: row[name] for name in _TOLD}}
        for row, item, hop in zip(rows, ids, hops, strict=True)
    ]
    hop = store.hop(chosen)
    kept = [
        k for k in range(len(hop.source)) if hop.source[k] < hop.target[k] and int(hop.target[k]) in index
    ]
    told = store.relation_texts(hop.relation[kept]).to_pylist()
    edges = [
        {
            "source": index[int(hop.source[k])],
            "target": index[int(hop.target[k])],
            "type": row["type"],
            "description": row["description"],
        }
        for k, row in zip(kept, told, strict=True)
    ]
    return Around(nodes, edges, left_out)


def as_text(found: Around) -> str:
    """Return a neighbourhood as text for a terminal."""
    item = found.nodes[0]
    lines = [f"{item['name']} ({item['item_id']})", f"  {item['description']}", ""]
    names = [node["name"] for node in found.nodes]
    for edge in found.edges:
        if 0 in (edge["source"], edge["target"]):
            other = max(edge["source"], edge["target"])
            node = found.nodes[other]
            lines.append(f"- {node['name']} ({node['type']}): {_first(edge['description'])}")
            shared = [
                names[
                    max(e["source"], e["target"])
                    if other == min(e["source"], e["target"])
                    else min(e["source"], e["target"])
                ]
                for e in found.edges
                if other in (e["source"], e["target"]) and 0 not in (e["source"], e["target"])
            ]
            lines += [f"    also {name}" for name in shared[:8]]
            lines += [f"    and {len(shared) - 8} more"] if len(shared) > 8 else []
    if found.left_out:
        lines.append(f"{found.left_out} more entities were left out")
    return "\n".join(lines)


def as_html(found: Around) -> str:
    """Return a neighbourhood as a page: a drawing whose dots tell their descriptions, and a list of them.

    Everything is in the page, no script and nothing from elsewhere; the catalogue's text stands in it escaped.
    """
    drawing = nx.Graph()
    drawing.add_nodes_from(range(len(found.nodes)))
    drawing.add_edges_from((edge["source"], edge["target"]) for edge in found.edges)
    start = {0: (0.0, 0.0)}
    spread = 2.2 / np.sqrt(max(1, len(found.nodes)))
    made = nx.spring_layout(
        drawing, k=spread, seed=1, fixed=[0], pos=nx.circular_layout(drawing) | start, iterations=200
    )
    places = np.array([made[i] for i in range(len(found.nodes))])
    half = np.abs(places).max(axis=0).clip(min=1e-9)
    places = places / half * (_WIDTH / 2 - 130, _HEIGHT / 2 - 40) + (_WIDTH / 2, _HEIGHT / 2)
    types = list(dict.fromkeys(node["type"] for node in found.nodes))
    colours = {kind: _COLOURS[min(i, len(_COLOURS) - 1)] for i, kind in enumerate(types)}
    nodes = [
        {
            **node,
            "x": round(float(x), 1),
            "y": round(float(y), 1),
            "colour": colours[node["type"]],
            "radius": (13, 8, 5)[node["hops"]],
            "label": _short(node["name"], 34 if node["hops"] < 2 else 22),
        }
        for node, (x, y) in zip(found.nodes, places, strict=True)
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coldray.graph", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("around.html.j2").render(
        nodes=nodes, edges=found.edges, colours=colours, left_out=found.left_out, width=_WIDTH, height=_HEIGHT
    )


def _first(text: str) -> str:
    return text.split("\n", 1)[0]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
