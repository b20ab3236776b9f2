"""What a model will take is said before it is there."""

import json

import pytest

from coldray.errors import UserError
from coldray.llm.memory import memory_of
from coldray.llm.settings import VLLM

QWEN_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
"""the shape of Qwen2.5-7B-Instruct, whose weights are 15,231,233,024 bytes in bfloat16"""


@pytest.fixture
def model(tmp_path):
    """Return a function that writes a model's configuration and returns its settings."""

    def make(changes=None, **options):
        (tmp_path / "config.json").write_text(json.dumps(QWEN_7B | (changes or {})))
        return VLLM(model=str(tmp_path), **options)

    return make


def test_a_model_that_is_not_there_is_counted_by_its_shape(model):
    memory = memory_of(model())
    assert memory.weights == 15_231_233_024
    assert memory.token == 2 * 28 * 4 * 128 * 2


def test_the_type_of_the_weights_counts(model):
    plain, wide = memory_of(model()), memory_of(model(dtype="float32"))
    assert (wide.weights, wide.token) == (2 * plain.weights, 2 * plain.token)
    four = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    assert memory_of(model(four)).weights == plain.weights // 4


def test_weights_that_are_there_are_weighed(model, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    assert memory_of(model()).weights == 1000


def test_requests_take_memory_beside_the_weights(model):
    settings = model(max_length=1000, concurrency=10)
    memory = memory_of(settings)
    assert memory.least(settings) == memory.weights + 1000 * memory.token
    assert memory.whole(settings) == memory.weights + 10_000 * memory.token


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="configuration cannot be read"):
        memory_of(VLLM(model=str(tmp_path)))
