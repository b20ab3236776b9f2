"""The graph on disk: Lance tables and manifests; one writer, any number of readers, each of one version."""

from coldray.graph.store.reader import GraphStore, Hop
from coldray.graph.store.tables import Manifest, manifests, read_manifest
from coldray.graph.store.writer import Writer, prune, rollback, writing

__all__ = [
    "GraphStore",
    "Hop",
    "Manifest",
    "Writer",
    "manifests",
    "prune",
    "read_manifest",
    "rollback",
    "writing",
]
