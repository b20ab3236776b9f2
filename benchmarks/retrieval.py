"""What a language model is asked for a recommendation: ours against the scheme of ColdRAG's reference.

    make quickstart-graph
    python benchmarks/retrieval.py --graph data/ml-100k/graph --model data/models/smollm2-135m

The reference's scheme is the scorer `lines`: ten edges a prompt, scores written as text and read line by line. Beside it stand
one token an edge for all edges (`llm`), and for those that the embedding chooses (`hybrid`). The same graph, model and histories,
and a threshold that lets all edges pass, so that all walk the same way; the model starts once, and its prefix cache is emptied
before each scheme. Ranking by the model is counted apart.
"""

import argparse
import asyncio
import os
import time

import numpy as np

from coldray.encode.sentence_model import TextEncoder
from coldray.graph.build import read_settings
from coldray.graph.store import GraphStore
from coldray.llm.cached import Cached
from coldray.llm.placement import ENVIRONMENT
from coldray.llm.settings import VLLM, make_engine
from coldray.retrieval.recommend import Recommender
from coldray.retrieval.settings import RetrievalSettings

SCHEMES = {
    "reference: ten edges a prompt, lines of text": {"scorer": "lines"},
    "`llm`: one token an edge": {"scorer": "llm"},
    "`llm`, ten edges a prompt, a JSON array": {"scorer": "llm", "batch": 10},
    "`hybrid`: one token, the 60 nearest edges a hop": {"scorer": "hybrid"},
    "`scores` alone, no model": {"scorer": "embedding"},
    "`embedding`, ranked by the model": {"scorer": "embedding", "ranker": "llm"},
}


async def measure(args: argparse.Namespace) -> None:
    store = GraphStore.open(args.graph)
    store.hold()
    embed = TextEncoder(read_settings(args.graph).sentence_model)
    engine = make_engine(VLLM(model=args.model, max_length=args.max_length, concurrency=32, cache_gib=1))
    items = store.item_ids(np.flatnonzero(store.is_item))
    random = np.random.default_rng(0)
    histories = [random.choice(items, 3, replace=False).tolist() for _ in range(args.histories)]
    print(
        "| scheme | edges | questions | tokens read | tokens written | seconds | written, of the first | seconds, of the first |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    first: tuple[float, float] | None = None
    for name, changes in SCHEMES.items():
        settings = RetrievalSettings.model_validate(
            {"threshold": args.threshold, "hops": args.hops} | changes
        )
        if settings.scorer == "embedding":
            settings = settings.model_copy(update={"threshold": None})
        recommender = Recommender(store, embed, Cached(engine))
        await engine._engine.reset_prefix_cache()  # each scheme reads its prompts itself
        began, edges, calls, read, written = time.perf_counter(), 0, 0, 0, 0
        for history in histories:
            found = await recommender.recommend(history, 10, settings)
            edges += sum(hop.scored for hop in found.hops)
            calls += found.spent.calls
            read += found.spent.prompt_tokens
            written += found.spent.completion_tokens
        seconds, count = time.perf_counter() - began, len(histories)
        first = first or (written, seconds)
        fewer = f"1/{first[0] / written:.0f}" if written else "none"
        cells = [f"{value / count:,.0f}" for value in (edges, calls, read, written)]
        print(
            f"| {name} | {' | '.join(cells)} | {seconds / count:.2f} | {fewer} | 1/{first[1] / seconds:.1f} |",
            flush=True,
        )
    await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graph", required=True)
    parser.add_argument("--model", required=True, help="a folder or a name of the hub, for vLLM")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--histories", type=int, default=5)
    parser.add_argument("--hops", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.0, help="0: every scheme walks the same edges")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    asyncio.run(measure(args))


if __name__ == "__main__":
    main()
