import asyncio
import itertools

import numpy as np
import pytest

from coldray.graph.store import GraphStore
from coldray.retrieval.anchors import find_anchors
from coldray.retrieval.scorers import Budget, EmbeddingScorer
from coldray.retrieval.settings import RetrievalSettings
from coldray.retrieval.walk import Walked, walk


def random_items(seed, items=60, features=25):
    random = np.random.default_rng(seed)
    return {
        f"i{i}": [f"f{j}" for j in dict.fromkeys((random.zipf(1.6, 3) % features).tolist())]
        for i in range(items)
    }


def reference(store, anchors, threshold, hops):
    """Walk edge by edge, with sets, as the paper says it: the pool as scores by position."""
    frontier, visited, seen, pool = set(anchors.positions.tolist()), set(), set(), {}
    strength = dict.fromkeys(frontier, 1.0)
    for _ in range(hops):
        visited |= frontier
        following = set()
        scored = []
        for place in sorted(frontier):
            hop = store.hop([place])
            for target, relation in zip(hop.target.tolist(), hop.relation.tolist(), strict=True):
                if relation not in seen and relation not in {other for _, _, other, _ in scored}:
                    cosine = float(store.relation_vectors([relation])[0] @ anchors.query)
                    scored.append((place, target, relation, 10 * max(0.0, cosine)))
        seen |= {relation for _, _, relation, _ in scored}
        for place, target, _, score in sorted(scored, key=lambda edge: (-edge[3], edge[2])):
            if score >= threshold:
                if store.is_item[target] and target not in anchors.positions:
                    pool[target] = pool.get(target, 0) + strength[place] * score
                if target not in visited:
                    following.add(target)
                    strength.setdefault(target, strength[place] * score / 10)
        frontier = following
        if not frontier:
            break
    return pool


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("threshold", [0.0, 8.0])
def test_the_walk_is_that_of_the_paper_edge_by_edge(catalogue, tmp_path, seed, threshold):
    catalogue.write(tmp_path, random_items(seed))
    store = GraphStore.open(str(tmp_path))
    anchors = find_anchors(store, ["i1", "i2", "i3"], 20, None)
    settings = RetrievalSettings(threshold=threshold, pool=10_000, edges=100_000, hops=3)
    walked = Walked()

    async def run():
        scorer, budget = EmbeddingScorer(), Budget()
        return [done async for done in walk(store, anchors, settings, scorer, budget, walked)]

    hops = asyncio.run(run())
    wanted = reference(store, anchors, threshold, 3)
    assert dict(walked.best(10_000)) == pytest.approx(wanted, rel=1e-4)
    assert hops[-1].pool == len(wanted)
    for place, _ in walked.best(10_000):
        for path in walked.paths(place, 100):
            assert path[0][0] in anchors.positions
            assert path[-1][1] == place
            assert all(one[1] == other[0] for one, other in itertools.pairwise(path))
