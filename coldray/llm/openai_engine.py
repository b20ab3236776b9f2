"""Any address that speaks OpenAI's chat completions."""

import asyncio
import json
import math
from typing import Any

import openai
from pydantic import SecretStr

from coldray.errors import ServiceError, UserError
from coldray.llm.engine import Answer, RefusedError, Request, check_one_kind, expectation, request_id
from coldray.llm.settings import OpenAI
from coldray.settings import digest

_BYTES = 3
"""of UTF-8 a token, a cautious guess: the address does not lend its tokenizer"""
_LIKELIEST = 20
"""tokens whose probability an address tells at most"""


class OpenAIEngine:
    """An engine of `coldray.llm.engine`. Retries with growing pauses are the client's."""

    def __init__(self, settings: OpenAI, key: SecretStr | None) -> None:
        self.settings = settings
        # By its name alone: behind another address it is the same model.
        self.identity = digest(["openai", settings.model])
        self._client = openai.AsyncOpenAI(
            api_key=key.get_secret_value() if key else "none",
            base_url=settings.url,
            max_retries=settings.retries,
            timeout=settings.timeout_s,
        )
        self._turn = asyncio.Lock()

    async def generate(self, request: Request) -> Answer:
        """Return the answer. Raises ServiceError if the address is down, too slow, or goes on saying HTTP 429."""
        check_one_kind(request)
        await self._wait_for_turn()
        where = f"llm address {self.settings.url}"
        try:
            made = await self._client.chat.completions.create(**self._body(request), extra_headers=_headers())
        except openai.AuthenticationError as error:
            raise UserError(f"{where}: does not take the key; set {self.settings.key_variable}") from error
        except openai.NotFoundError as error:
            raise UserError(
                f"{where}: has no model {self.settings.model}; correct llm.model or llm.url"
            ) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise RefusedError(" ".join(str(error).split())) from error
        except (openai.APIError, json.JSONDecodeError) as error:
            reason = " ".join(str(error).split())
            tries = f"after {self.settings.retries} retries ({reason:.200})"
            raise ServiceError(
                f"{where}: no answer {tries}; run the same again when it is up, nothing is lost"
            ) from error
        if not getattr(made, "choices", None):
            raise ServiceError(f"{where}: answers, but not as chat completions do; correct llm.url")
        return self._answer(request, made)

    async def _wait_for_turn(self) -> None:
        if self.settings.requests_per_second:
            async with self._turn:
                await asyncio.sleep(1 / self.settings.requests_per_second)

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": messages,
            "max_completion_tokens": 1 if request.scale else request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "frequency_penalty": request.frequency_penalty,
        }
        if request.schema:
            body["response_format"] = _as_format(json.loads(request.schema))
        elif request.choices:
            body["response_format"] = _as_format({"type": "string", "enum": list(request.choices)})
        elif request.scale:
            body |= {"logprobs": True, "top_logprobs": _LIKELIEST}
        return body

    def _answer(self, request: Request, made: Any) -> Answer:
        choice = made.choices[0]
        text, score = choice.message.content or "", None
        if request.choices and text.startswith('"'):
            text = json.loads(text)
        if request.scale:
            found = {top.token: top.logprob for top in choice.logprobs.content[0].top_logprobs}
            score = expectation([found.get(word, -math.inf) for word in request.scale])
        whole = choice.finish_reason != "length" or bool(request.scale)
        return Answer(text, made.usage.prompt_tokens, made.usage.completion_tokens, whole, score)

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return each text, or its beginning of about `tokens` tokens, by the length of its UTF-8."""
        return [text.encode()[: tokens * _BYTES].decode(errors="ignore") for text in texts]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _headers() -> dict[str, str]:
    asked = request_id.get()
    return {"X-Request-ID": asked} if asked else {}


def _as_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
