"""Where an engine fits: what it needs of a node, said before anything waits for it."""

import importlib.util
from dataclasses import dataclass
from typing import Any

import ray

from coldray.errors import UserError
from coldray.llm.settings import VLLM, OpenAI, Shared

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # Of a CPU's cores vLLM would leave one idle; what else runs beside it does little.
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
"""of processes with an engine"""


@dataclass(frozen=True)
class Needs:
    """What one engine needs of a single node."""

    cpus: float
    gpus: float

    @staticmethod
    def of(settings: VLLM | Shared | OpenAI) -> "Needs":
        """Return the needs of an engine on the cluster that this process is connected to.

        With the CPU build of vLLM an engine computes on all cores of its node, and is counted as all but one of them, so
        that something else fits beside it.
        """
        if not isinstance(settings, VLLM):
            return Needs(1 if isinstance(settings, OpenAI) else 0, 0)
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "llm engine vllm: vLLM is not installed; make install LOCK=llm, or take another llm.engine"
            )
        if any(node.get("GPU", 0) >= 1 for node in _nodes()):
            return Needs(1, settings.tensor_parallel)
        largest = max((node.get("CPU", 0) for node in _nodes()), default=0)
        return Needs(max(1.0, largest - 1), 0)

    def check(self, engines: int = 1) -> None:
        """Raise UserError unless the cluster has room for so many engines, now or once others have ended."""
        room = (
            sum(
                min(
                    int(node.get(name, 0) // amount)
                    for name, amount in (("CPU", self.cpus), ("GPU", self.gpus))
                    if amount
                )
                for node in _nodes()
            )
            if self.cpus or self.gpus
            else engines
        )
        if room < engines:
            each = f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
            there = (
                "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in _nodes())
                or "no node"
            )
            raise UserError(
                f"llm: {engines} engines need {each} of a node each, and there is room for {room} (nodes: {there}); "
                "ask for fewer, lower llm.tensor_parallel, or add nodes"
            )


def _nodes() -> list[dict[str, Any]]:
    """Return the resources of each node that is up."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # not typed in Ray
    return [node["Resources"] for node in nodes if node["Alive"]]
