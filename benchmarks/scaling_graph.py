"""One build of a graph with so many engines, each on cores of its own; prints what it took as JSON. Run by scaling.py."""

import argparse
import json
import os
from dataclasses import asdict

import ray
from ray.cluster_utils import Cluster

from coldray.data.prepare import start_ray
from coldray.graph.build import build_graph
from coldray.graph.settings import BuildSettings
from coldray.settings import load_yaml


def start_nodes(engines: int, cores: int) -> None:
    """Start a Ray of a node for each engine, bound to `cores` cores that no other node has, and a head that runs nothing.

    vLLM computes on the cores that its process may use, which are the node's: two engines of one node would share all.
    """
    every = sorted(os.sched_getaffinity(0))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for engine in range(engines):
        os.sched_setaffinity(0, {every[(engine * cores + core) % len(every)] for core in range(cores)})
        cluster.add_node(num_cpus=1)  # what an engine asks for of such a node
    os.sched_setaffinity(0, every)
    start_ray(cluster.address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("items", "graph", "config", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--engines", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    args = parser.parse_args()
    settings = load_yaml(args.config, BuildSettings)
    llm = settings.llm.model_copy(update={"model": os.path.abspath(args.model)})
    settings = settings.model_copy(
        update={"llm": llm, "engines": args.engines, "columns": ("title",), "entities": {}, "separators": {}}
    )
    start_nodes(args.engines, args.cores)
    built = build_graph(os.path.abspath(args.items), os.path.abspath(args.graph), settings)
    ray.shutdown()
    made = {"described": built.described, "failed": sum(built.failed.values()), "usage": asdict(built.usage)}
    print(json.dumps(made | {"answering": built.answering, "whole": built.seconds}))


if __name__ == "__main__":
    main()
