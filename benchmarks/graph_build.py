"""Tokens a second of a graph's build against vLLM alone with the same prompts, and what a build costs in calls and tokens.

    python benchmarks/graph_build.py data/amazon-office --config graph_configs/quickstart.yaml --items 64

Both run one after the other on the same machine, each with its own engine of the same settings; loading the model is left out
of both. vLLM alone gets all profiles at once, then all extractions at once (`LLM.chat`): what it would do offline.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

import ray
import vllm
from vllm.sampling_params import StructuredOutputsParams

from coldray.data.prepare import start_ray
from coldray.graph.build import build_graph, catalogue_rows
from coldray.graph.catalogue import read_item
from coldray.graph.extract import Describer
from coldray.graph.settings import BuildSettings
from coldray.llm.answers import Answers, Remembering
from coldray.llm.engine import Request
from coldray.llm.models import identity
from coldray.llm.placement import ENVIRONMENT
from coldray.settings import load_yaml


class Replay:
    """What a build remembered, in the place of an engine: it is asked for nothing, and cuts nothing."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return the texts: titles are short."""
        return texts


def requests_of(
    graph: str, items: str, columns: list[str], settings: BuildSettings, limit: int
) -> list[list[Request]]:
    """Return the requests of a build that is done: the profiles', then the extractions'."""
    asked: list[Request] = []
    engine = Remembering(Replay(identity(settings.llm.model)), Answers(f"{graph}/answers"))
    ask = engine.ask

    async def noting(request: Request):
        asked.append(request)
        return await ask(request)

    engine.ask = noting
    describer = Describer(engine, settings)

    async def run() -> None:
        for _, _, row in catalogue_rows(items, columns, limit):
            await describer.describe(read_item(row, columns, settings))

    asyncio.run(run())
    return [[r for r in asked if r.prompt.startswith(stage)] for stage in ("profile", "extract")]


def offline(settings: BuildSettings, stages: list[list[Request]]) -> tuple[int, float]:
    """Return the tokens that vLLM alone writes for the stages, and its seconds."""
    llm = settings.llm
    engine = vllm.LLM(
        model=llm.model, dtype=llm.dtype, max_model_len=llm.max_length, max_num_seqs=llm.concurrency,
        enforce_eager=not llm.compile, kv_cache_memory_bytes=int(llm.cache_gib * 2**30),
        structured_outputs_config={"disable_any_whitespace": True, "backend": "xgrammar"},
    )  # fmt: skip
    tokens, began = 0, time.perf_counter()
    for requests in stages:
        sampling = [
            vllm.SamplingParams(
                max_tokens=r.max_tokens, temperature=r.temperature, frequency_penalty=r.frequency_penalty,
                seed=r.seed if r.temperature else None,
                structured_outputs=StructuredOutputsParams(json=json.loads(r.schema)) if r.schema else None,
            )
            for r in requests
        ]  # fmt: skip
        messages = [
            [{"role": "system", "content": r.system}, {"role": "user", "content": r.user}] for r in requests
        ]
        made = engine.chat(messages, sampling, use_tqdm=False)
        tokens += sum(len(output.outputs[0].token_ids) for output in made)
    return tokens, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--config", required=True)
    parser.add_argument("--items", type=int, default=64)
    arguments = parser.parse_args()
    settings = load_yaml(arguments.config, BuildSettings)
    settings = settings.model_copy(update={"entities": {}, "separators": {}, "columns": ("title",)})
    os.environ |= ENVIRONMENT
    items = str(Path(arguments.dataset) / "items.parquet")
    with tempfile.TemporaryDirectory() as graph:
        start_ray()
        built = build_graph(items, graph, settings, limit=arguments.items)
        ray.shutdown()
        stages = requests_of(graph, items, ["title"], settings, arguments.items)
        alone, seconds = offline(settings, stages)
    rate, reference = built.usage.completion_tokens / built.answering, alone / seconds
    print(f"{built.described} items, {built.usage.calls} calls, {sum(built.failed.values())} failed")
    print(f"{built.usage.prompt_tokens / built.described:.0f} tokens read and "
          f"{built.usage.completion_tokens / built.described:.0f} written an item")  # fmt: skip
    print("| | tokens written | s | tokens/s |\n|---|---|---|---|")
    print(f"| vLLM alone | {alone:,} | {seconds:.1f} | {reference:.0f} |")
    print(
        f"| graph build | {built.usage.completion_tokens:,} | {built.answering:.1f} | {rate:.0f} ({rate / reference:.0%}) |"
    )


if __name__ == "__main__":
    main()
