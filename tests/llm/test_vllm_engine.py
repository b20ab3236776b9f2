"""vLLM in this process, with the packaged SmolLM2."""

import asyncio
import json

import pytest

from coldray.errors import UserError
from coldray.llm.engine import RefusedError, Request
from coldray.llm.metrics import Tokens
from coldray.llm.settings import VLLM, make_engine

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["book", "film"]}, "year": {"type": "integer"}},
    "required": ["kind", "year"],
    "additionalProperties": False,
}


@pytest.mark.slow
def test_every_kind_of_answer_in_one_engine(smollm, monkeypatch):
    from coldray.llm.placement import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    counted = []
    monkeypatch.setattr(Tokens, "count", lambda self, read, written: counted.append((read, written)))

    async def run():
        engine = make_engine(VLLM(model=smollm, max_length=1024, cache_gib=0.5))
        try:
            await asks(engine, counted)
        finally:
            await engine.close()

    asyncio.run(run())


async def asks(engine, counted):
    def ask(**options):
        user = "Toy Story is a film of 1995. What is it?"
        return Request("test@1", "You answer briefly.", user, **({"max_tokens": 60} | options))

    free, choice, scale, schema, cut = await asyncio.gather(
        engine.generate(ask()),
        engine.generate(ask(choices=("a film", "a fruit"))),
        engine.generate(ask(scale=tuple("0123456789"))),
        engine.generate(ask(schema=json.dumps(SCHEMA))),
        engine.generate(ask(max_tokens=3)),
    )
    answered = [(a.prompt_tokens, a.completion_tokens) for a in (free, choice, scale, schema, cut)]
    assert sorted(counted) == sorted(answered)
    # Alone, as in bfloat16 what else is in a batch may change which of two near words comes first.
    one, again = [await engine.generate(ask()) for _ in range(2)]
    assert one.text == again.text
    assert free.prompt_tokens > 20
    assert choice.text in ("a film", "a fruit")
    assert scale.completion_tokens == 1
    assert 0 <= scale.score <= 9
    made = json.loads(schema.text)
    assert made["kind"] in ("book", "film")
    assert "\n" not in schema.text
    assert not cut.whole
    assert cut.completion_tokens == 3
    # More prompt than a step reads, with seeds: what ended the CPU worker while prompts were read in parts.
    long = [
        Request("test@1", "", f"{i} " + "word " * 600, max_tokens=8, temperature=0.7, seed=i // 2)
        for i in range(8)
    ]
    answers = await asyncio.gather(*map(engine.generate, long))
    assert all(answer.prompt_tokens > 500 for answer in answers)

    drawn = [await engine.generate(ask(temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0].text == drawn[1].text != drawn[2].text
    with pytest.raises(RefusedError, match="more than max_length 1024"):
        await engine.generate(Request("test@1", "", "word " * 2000))
    with pytest.raises(UserError, match="'ten thousand' is 2 tokens"):
        await engine.generate(ask(scale=("1", "ten thousand")))
    texts = await engine.cut(["one two three four five six", "", "short"], 3)
    assert texts == ["one two three", "", "short"]
    (long,) = await engine.cut(["word " * 200_000], 10)
    assert len(long.split()) == 10


def test_a_folder_that_is_no_model_is_said(tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed; make install LOCK=llm")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"12")
    with pytest.raises(UserError, match="vLLM does not load it"):
        make_engine(VLLM(model=str(tmp_path)))


@pytest.mark.slow
def test_what_ended_an_engine_that_does_not_start_is_said(smollm, monkeypatch, capfd):
    from coldray.llm.placement import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"vLLM does not start \(RuntimeError: .*requested memory for kv"):
        make_engine(VLLM(model=smollm, max_length=1024, cache_gib=1_000_000))
    assert "requested memory for kv" in "".join(capfd.readouterr())


def test_the_type_follows_the_processor(monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed; make install LOCK=llm")
    import torch

    from coldray.llm.vllm_engine import compute_dtype

    for fast, expected in ((True, "auto"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        assert compute_dtype(VLLM(model="m"), on_cpu=True) == expected
        assert compute_dtype(VLLM(model="m"), on_cpu=False) == "auto"
        assert compute_dtype(VLLM(model="m", dtype="bfloat16"), on_cpu=True) == "bfloat16"
