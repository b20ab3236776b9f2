"""An address that speaks chat completions: a real vLLM server, and a scripted one for faults."""

import asyncio
import json
import time

import pytest
from pydantic import SecretStr

from coldray.errors import ServiceError, UserError
from coldray.llm.engine import RefusedError, Request
from coldray.llm.settings import OpenAI, make_engine

ASK = Request("test@1", "Be brief.", "title: Red pen\nWhat is it?", max_tokens=30)


def ask(settings, *requests, key=None):
    async def run():
        engine = make_engine(settings, key)
        try:
            return await asyncio.gather(*(engine.generate(request) for request in requests))
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.slow
def test_a_real_vllm_server(vllm_server):
    url, key = vllm_server
    settings = OpenAI(url=url, model="smollm2", retries=0)
    schema = {
        "type": "object",
        "properties": {"n": {"enum": ["pen", "cup"]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    user = "Is a pen for writing?"
    free, choice, scale, made = ask(
        settings,
        Request("t@1", "Be brief.", user, max_tokens=20),
        Request("t@1", "Be brief.", user, choices=("yes", "no")),
        Request("t@1", "Answer with a digit from 0 to 9.", user, scale=tuple("0123456789")),
        Request("t@1", "Be brief.", user, schema=json.dumps(schema)),
        key=SecretStr(key),
    )
    assert free.prompt_tokens > 10
    assert 0 < free.completion_tokens <= 20
    assert choice.text in ("yes", "no")
    assert 0 <= scale.score <= 9
    assert json.loads(made.text)["n"] in ("pen", "cup")
    with pytest.raises(RefusedError):
        ask(settings, Request("t@1", "", "word " * 5000), key=SecretStr(key))
    with pytest.raises(UserError, match="does not take the key; set OPENAI_API_KEY"):
        ask(settings, ASK)
    with pytest.raises(UserError, match="has no model other"):
        ask(OpenAI(url=url, model="other", retries=0), ASK, key=SecretStr(key))


def test_the_scripted_address_is_asked_as_openai_is(llm_address):
    (answer,) = ask(OpenAI(**llm_address.settings()), ASK, key=SecretStr("k"))
    assert answer.text == "Red pen is a thing of 7 letters."
    assert (answer.prompt_tokens, answer.completion_tokens) == (10, 8)
    (body,) = llm_address.asked
    assert body["max_completion_tokens"] == 30
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert llm_address.keys == ["Bearer k"]


def test_too_many_requests_and_errors_are_tried_again(llm_address):
    llm_address.fault = lambda number, body: (
        (429, "{}") if number == 1 else (503, "{}") if number == 2 else None
    )
    (answer,) = ask(OpenAI(**llm_address.settings(retries=3)), ASK)
    assert answer.text
    assert len(llm_address.asked) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((429, '{"error": {"message": "slow down"}}'), "no answer after 1 retries"),
        ((500, "broken"), "no answer after 1 retries"),
        ((200, "<html>a login page</html>"), "answers, but not as chat completions do|no answer"),
        ((200, "{}"), "not as chat completions do"),
        (3.0, "no answer after 1 retries"),
    ],
)
def test_an_address_that_stays_bad_is_a_service_error(llm_address, fault, message):
    llm_address.fault = lambda number, body: fault
    with pytest.raises(ServiceError, match=message):
        ask(OpenAI(**llm_address.settings(timeout_s=0.5)), ASK)


def test_an_address_that_is_down_is_a_service_error():
    with pytest.raises(ServiceError, match="nothing is lost"):
        ask(OpenAI(url="http://127.0.0.1:9/v1", model="m", retries=0), ASK)


def test_the_rate_is_kept(llm_address):
    began = time.monotonic()
    ask(OpenAI(**llm_address.settings(requests_per_second=20)), *[ASK] * 6)
    assert time.monotonic() - began >= 6 / 20


def test_texts_are_cut_by_their_bytes(llm_address):
    async def run():
        engine = make_engine(OpenAI(**llm_address.settings()))
        return await engine.cut(["abcdefghij", "ééééé", "x"], 3)

    assert asyncio.run(run()) == ["abcdefghi", "éééé", "x"]
