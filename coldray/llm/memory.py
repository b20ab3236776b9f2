"""How much memory a model of vLLM takes, said before it is loaded and, for one of the hub, before it is downloaded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldray.errors import UserError
from coldray.llm.settings import VLLM


@dataclass(frozen=True)
class Memory:
    """Memory in bytes. Activations, a few GB at most, come on top."""

    weights: int
    token: int
    """keys and values of one token, where every layer keeps them"""

    def whole(self, settings: VLLM) -> int:
        """Return what it takes if every request is as long as one may be."""
        return self.weights + self.token * settings.max_length * settings.concurrency

    def least(self, settings: VLLM) -> int:
        """Return what it takes to answer at all: one request as long as one may be."""
        return self.weights + self.token * settings.max_length


def memory_of(settings: VLLM) -> Memory:
    """Return what the model takes, by its configuration and, where they are there, its files.

    Weights that are not there are counted in the type that they will have: for that the model is built without memory.
    Raises UserError if the configuration cannot be had.
    """
    from transformers import AutoConfig  # noqa: PLC0415 - takes seconds

    try:
        config = AutoConfig.from_pretrained(settings.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"llm model {settings.model}: its configuration cannot be read ({reason:.200}); name a folder with a model, "
            "or one of the hub where it can be reached"
        ) from error
    text = config.get_text_config()
    size = 4 if settings.dtype == "float32" else 2
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    weights = sum(file.stat().st_size for file in Path(settings.model).glob("*.safetensors"))
    return Memory(weights or _built(config, size), 2 * text.num_hidden_layers * heads * width * size)


def _built(config: Any, size: int) -> int:
    """Return the bytes of the weights of a model that is not there, `size` a number unless it is quantized."""
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - likewise

    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        del config.quantization_config
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]  # its own, untyped
    except ValueError as error:
        raise UserError(
            f"{config.model_type}: transformers builds no such model; download it first"
        ) from error
    bits = 8 * size if quantized is None else _bits(quantized, 8 * size)
    return int(sum(weight.numel() for weight in model.parameters()) * bits // 8)


def _bits(quantized: Any, plain: int) -> int:
    """Return the bits of a number of a quantized model."""
    said: dict[str, Any] = (
        quantized if isinstance(quantized, dict) else json.loads(quantized.to_json_string())
    )
    if "bits" in said:
        return int(said["bits"])
    return 8 if "fp8" in str(said.get("quant_method")) else plain
