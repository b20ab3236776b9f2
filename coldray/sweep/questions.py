"""What the cells of a method that asks a language model depend on: of all its settings those that count."""

from dataclasses import dataclass
from typing import Any

from coldray import storage
from coldray.graph.store.tables import read_manifest
from coldray.llm.settings import Shared, identity_of
from coldray.settings import digest
from coldray.sweep.config import SweepSettings
from coldray.sweep.methods import ASKING, WALKING, Method
from coldray.zeroshot.settings import ZeroShotSettings

_COMMON = ("temperature", "history", "candidates", "candidate_seed", "title_characters", "list_tokens")
_OWN: dict[str, tuple[str, ...]] = {
    "taxrec": ("taxonomy_sample", "taxonomy_features", "taxonomy_lists"),
    "kalm4rec": ("columns", "keywords", "keyword_candidates"),
    **dict.fromkeys(WALKING, ("retrieval", "ranker")),
}
"""settings that a method reads, besides the common ones"""
GROWN = "cold items in the graph"
"""what the cells of a growing graph vary"""


@dataclass(frozen=True)
class Question:
    """How a cell asks."""

    method: Method
    settings: ZeroShotSettings
    """all of them; `record` says which count"""
    model: str
    """identity of the language model"""
    graph: str = ""
    """absolute URI of the graph, of a method that walks"""
    graph_version: dict[str, Any] | None = None
    """number and time of its version"""
    varied: str = ""
    """setting=value, of an analysis"""
    growth: tuple[int, int] = (0, 0)
    """tenths, or what parts they are, of the cold items that the graph has, and parts in all; (0, 0): the graph as it is"""

    def record(self) -> dict[str, Any]:
        """Return what the result depends on, besides data and seed."""
        names = (*_COMMON, *_OWN.get(self.method, ()))
        said = self.settings.model_dump(mode="json", include=set(names))
        said |= {"model": self.model} | ({} if self.graph_version is None else {"graph": self.graph_version})
        return said | ({"growth": list(self.growth)} if self.growth[1] else {})

    @property
    def shared_id(self) -> str | None:
        """Hash of what its cells make once for all seeds: a taxonomy, a graph that grows."""
        if self.growth[1]:
            return digest(["growth", self.graph, self.graph_version, self.growth[1]])
        return digest(["taxonomy", self.record()]) if self.method == "taxrec" else None


def make_questions(settings: SweepSettings) -> dict[Method, list[Question]]:
    """Return how the cells of each method of a sweep that asks a model ask: as it stands, then its analyses.

    Raises UserError if the model or the graph is not there.
    """
    zeroshot = settings.zeroshot
    asking = [method for method in settings.methods if method in ASKING]
    if zeroshot is None or not asking:
        return {}
    llm = zeroshot.llm
    # A model on Serve says what it is only when asked; its name has to do until then.
    model = digest(["serve", llm.app]) if isinstance(llm, Shared) else identity_of(llm)
    graph, version = "", None
    if any(method in WALKING for method in asking):
        graph = storage.absolute(zeroshot.graph or storage.join(settings.dataset, "graph"))
        manifest = read_manifest(graph)
        version = {"version": manifest.version, "created": manifest.created}
    made: dict[Method, list[Question]] = {}
    for method in asking:
        known = (graph, version) if method in WALKING else ("", None)
        made[method] = [Question(method, zeroshot, model, *known)]
        if method == "coldrag":
            made[method] += [
                Question(
                    method, zeroshot.varied(name, value), model, *known, varied=f"{name}={_plain(value)}"
                )
                for name, values in zeroshot.analyses.items()
                for value in values
            ]
            steps = zeroshot.growth
            made[method] += [
                Question(
                    method, zeroshot, model, *known, varied=f"{GROWN}={step}/{steps}", growth=(step, steps)
                )
                for step in range(steps + 1 if steps else 0)
            ]
    return made


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value
