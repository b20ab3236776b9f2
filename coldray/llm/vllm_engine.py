"""vLLM in this process (its workers are processes of their own)."""

import json
import math
import os
import re
import stat
import uuid
from pathlib import Path
from typing import Any

import torch
import vllm
from transformers import AutoTokenizer
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from coldray.errors import UserError
from coldray.llm.engine import (
    Answer,
    EngineDiedError,
    RefusedError,
    Request,
    check_one_kind,
    expectation,
    request_id,
)
from coldray.llm.metrics import Tokens
from coldray.llm.models import identity
from coldray.llm.settings import VLLM

_BATCHED_TOKENS = 4096
"""of all requests in one step on a CPU, at least"""
_ERROR = re.compile(r"^\(EngineCore.*\b(\w+(?:Error|Exception): .+)$", re.MULTILINE)
_CHARACTERS = 16
"""more characters than a token ever has on average; what is beyond is not looked at"""


class VLLMEngine:
    """An engine of `coldray.llm.engine`."""

    def __init__(self, settings: VLLM) -> None:
        self.identity = identity(settings.model)
        self.settings = settings
        self._tokens = Tokens()
        options: dict[str, Any] = {}
        on_cpu = vllm.platforms.current_platform.is_cpu()
        if on_cpu:
            options["kv_cache_memory_bytes"] = int(settings.cache_gib * 2**30)
            # Prompts are read whole: a part of one and a seed together end the CPU worker (a CPU generator has no offset).
            options["enable_chunked_prefill"] = False
            options["max_num_batched_tokens"] = max(settings.max_length, _BATCHED_TOKENS)
        else:
            options["gpu_memory_utilization"] = settings.gpu_memory
        arguments = vllm.AsyncEngineArgs(
            model=settings.model,
            dtype=compute_dtype(settings, on_cpu),
            quantization=settings.quantization,
            tensor_parallel_size=settings.tensor_parallel,
            max_model_len=settings.max_length,
            max_num_seqs=settings.concurrency,
            enforce_eager=on_cpu if settings.compile is None else not settings.compile,
            trust_remote_code=False,
            # A small model would fill its tokens with the white space that JSON allows.
            structured_outputs_config={"disable_any_whitespace": True, "backend": "xgrammar"},
            enable_log_requests=False,
            disable_log_stats=True,
            **options,
        )
        try:
            self._engine = AsyncLLM.from_engine_args(arguments)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"llm model {settings.model}: vLLM does not load it ({reason:.300}); name another"
            ) from error
        except RuntimeError as error:  # vLLM says that a process of its own ended, and that one says why
            reason = last_words() or " ".join(str(error).split())
            raise UserError(f"llm model {settings.model}: vLLM does not start ({reason:.500})") from error
        self._tokenizer: Any = AutoTokenizer.from_pretrained(settings.model)
        if self._tokenizer.chat_template is None:
            raise UserError(
                f"llm model {settings.model}: has no chat template; name an instruction-tuned model"
            )

    async def generate(self, request: Request) -> Answer:
        """Return the answer. Raises RefusedError where prompt and answer are longer than the model's context."""
        check_one_kind(request)
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        prompt = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        if len(prompt) + request.max_tokens > self.settings.max_length:
            raise RefusedError(
                f"{len(prompt)} tokens of prompt and {request.max_tokens} of answer are more than max_length "
                f"{self.settings.max_length}"
            )
        output: Any = None
        try:
            made = self._engine.generate(
                {"prompt_token_ids": prompt},
                self._sampling(request),
                "-".join(filter(None, (request_id.get(), uuid.uuid4().hex))),
            )
            async for part in made:
                output = part
        except EngineDeadError as error:
            raise EngineDiedError(f"vLLM with {self.settings.model} died; its log says why") from error
        except ValueError as error:
            raise RefusedError(" ".join(str(error).split())) from error
        (answer,) = output.outputs
        self._tokens.count(len(prompt), len(answer.token_ids))
        score = None
        if request.scale:
            found = answer.logprobs[0]
            ids = self._token_ids(request.scale)
            score = expectation([found[i].logprob if i in found else -math.inf for i in ids])
        return Answer(
            answer.text,
            len(prompt),
            len(answer.token_ids),
            answer.finish_reason != "length" or bool(request.scale),
            score,
        )

    def _sampling(self, request: Request) -> vllm.SamplingParams:
        options: dict[str, Any] = {}
        if request.schema:
            options["structured_outputs"] = StructuredOutputsParams(json=json.loads(request.schema))
        elif request.choices:
            options["structured_outputs"] = StructuredOutputsParams(choice=list(request.choices))
        elif request.scale:
            ids = self._token_ids(request.scale)
            options |= {"allowed_token_ids": ids, "logprob_token_ids": ids}
        return vllm.SamplingParams(
            max_tokens=1 if request.scale else request.max_tokens,
            temperature=request.temperature,
            frequency_penalty=request.frequency_penalty,
            seed=request.seed if request.temperature else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **options,
        )

    def _token_ids(self, scale: tuple[str, ...]) -> list[int]:
        """Return the token of each word of a scale. Raises UserError if one is not a single token."""
        tokens = [self._tokenizer.encode(word, add_special_tokens=False) for word in scale]
        for word, ids in zip(scale, tokens, strict=True):
            if len(ids) != 1:
                raise UserError(
                    f"llm model {self.settings.model}: {word!r} is {len(ids)} tokens; a scale needs one each"
                )
        return [ids[0] for ids in tokens]

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return each text, or its beginning of `tokens` tokens."""
        short = [text[: tokens * _CHARACTERS] for text in texts]
        if not any(short):
            return short
        ends = self._tokenizer(
            short, add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=tokens
        )["offset_mapping"]
        return [text[: max((end for _, end in of), default=0)] for text, of in zip(short, ends, strict=True)]

    async def close(self) -> None:
        """Stop vLLM's processes."""
        self._engine.shutdown()
        del self._engine  # which shuts down once more when it goes: now, not while the interpreter ends


def compute_dtype(settings: VLLM, on_cpu: bool) -> str:
    """Return the type in which the model computes: on a CPU that only emulates bfloat16, float32 unless another is asked for."""
    if settings.dtype == "auto" and on_cpu and not torch.cpu._is_avx512_bf16_supported():
        return "float32"
    return settings.dtype


def last_words() -> str:
    """Return the last error that vLLM's engine wrote before it ended; "" where this process does not write to files.

    In Ray's workers both streams are files, which nobody looks at while the engine starts.
    """
    found: list[str] = []
    for stream in (1, 2):
        log = Path(f"/proc/self/fd/{stream}")
        if log.exists() and stat.S_ISREG(os.fstat(stream).st_mode):
            found += _ERROR.findall(log.read_text(errors="replace"))
    return found[-1] if found else ""
