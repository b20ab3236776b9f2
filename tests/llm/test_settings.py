import pytest
from pydantic import TypeAdapter, ValidationError

from coldray.llm.settings import VLLM, EngineSettings, OpenAI, Shared

ENGINES = TypeAdapter(EngineSettings)


def test_the_engine_is_told_by_its_name():
    assert ENGINES.validate_python({"engine": "vllm", "model": "m"}) == VLLM(model="m")
    assert ENGINES.validate_python({"engine": "serve"}) == Shared()
    made = ENGINES.validate_python({"engine": "openai", "model": "m", "url": "http://127.0.0.1:1/v1/"})
    assert isinstance(made, OpenAI)
    assert made.url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    "given",
    [
        {"engine": "magic"},
        {"engine": "vllm"},
        {"engine": "vllm", "model": "m", "trust_remote_code": True},
        {"engine": "openai", "model": "m", "url": "file:///etc/passwd"},
        {"engine": "openai", "model": "m", "api_key": "secret"},
    ],
)
def test_what_is_no_engine_is_refused(given):
    with pytest.raises(ValidationError):
        ENGINES.validate_python(given)
