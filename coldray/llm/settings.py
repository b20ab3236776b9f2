"""Which engine runs which model: the `llm` part of a configuration."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from coldray.llm.engine import Engine
from coldray.settings import Settings


class VLLM(Settings):
    """vLLM in the actors that ask: as many models as actors."""

    engine: Literal["vllm"] = "vllm"
    model: str = Field(description="a folder, which every node has at the same path, or a name of the hub")
    tensor_parallel: int = Field(default=1, ge=1, description="GPUs of one node that share a model")
    max_length: int = Field(default=4096, ge=256, description="tokens of a prompt and its answer together")
    concurrency: int = Field(default=64, ge=1, description="requests that an engine works on at a time")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto",
        description="of the weights; auto: the model's own, on a CPU without AVX512 for bfloat16 float32, which is faster there",
    )
    quantization: str | None = Field(
        default=None, description="as vLLM names it, such as awq; none: the model's own"
    )
    gpu_memory: float = Field(
        default=0.9, gt=0, le=1, description="share of a GPU's memory that vLLM may take"
    )
    cache_gib: float = Field(default=2.0, gt=0, description="memory for keys and values on a CPU, GiB")
    compile: bool | None = Field(
        default=None,
        description="compile the model and, on a GPU, record its kernels: a slower start. None: on a GPU, as vLLM does; on a CPU "
        "it gains some per cent",
    )


class Shared(Settings):
    """A model on Ray Serve (`coldray llm serve`), shared by all who ask."""

    engine: Literal["serve"] = "serve"
    app: str = Field(default="coldray-llm", description="name of the Serve application")
    concurrency: int = Field(default=64, ge=1, description="requests in flight")


class OpenAI(Settings):
    """Any address that speaks OpenAI's chat completions: OpenAI, Azure (its /openai/v1/), a vLLM server."""

    engine: Literal["openai"] = "openai"
    url: str = Field(default="https://api.openai.com/v1", description="base address")
    model: str = Field(description="as the address names it")
    key_variable: str = Field(default="OPENAI_API_KEY", description="environment variable that holds the key")
    concurrency: int = Field(default=16, ge=1, description="requests in flight")
    requests_per_second: float | None = Field(default=None, gt=0, description="rate limit; none: no limit")
    retries: int = Field(default=6, ge=0, description="after an error or HTTP 429, with growing pauses")
    timeout_s: float = Field(default=120.0, gt=0, description="of one attempt, seconds")
    input_price: float = Field(
        default=0.0, ge=0, description="of a million tokens read; for the counter of costs"
    )
    output_price: float = Field(default=0.0, ge=0, description="of a million tokens written")

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("is no http:// or https:// address")
        return url.rstrip("/")


EngineSettings = Annotated[VLLM | Shared | OpenAI, Field(discriminator="engine")]


def make_engine(settings: VLLM | Shared | OpenAI, key: SecretStr | None = None) -> Engine:
    """Return a running engine. `key` is that of an OpenAI address.

    vLLM takes from half a minute up to load a model. Raises UserError for a model that is none, ServiceError if the
    application or address cannot be reached.
    """
    # Each engine's own imports take seconds, and only the one that is asked for is installed for sure.
    if isinstance(settings, VLLM):
        from coldray.llm.vllm_engine import VLLMEngine  # noqa: PLC0415 - see above

        return VLLMEngine(settings)
    if isinstance(settings, Shared):
        from coldray.llm.shared_engine import SharedEngine  # noqa: PLC0415 - see above

        return SharedEngine(settings)
    from coldray.llm.openai_engine import OpenAIEngine  # noqa: PLC0415 - see above

    return OpenAIEngine(settings, key)


def identity_of(settings: VLLM | Shared | OpenAI, key: SecretStr | None = None) -> str:
    """Return the identity that the engine will have, without loading a model."""
    if isinstance(settings, VLLM):
        from coldray.llm.models import identity  # noqa: PLC0415 - as in make_engine

        return identity(settings.model)
    return make_engine(settings, key).identity
