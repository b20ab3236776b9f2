import asyncio

import pytest

from coldray.errors import UserError
from coldray.llm.answers import Answers, Remembering, Usage, compact, key_of, parts
from coldray.llm.engine import Answer, RefusedError, Request


class Echo:
    """An engine that says what it was asked, slowly, and counts."""

    identity = "echo"

    def __init__(self):
        self.asked = []

    async def generate(self, request):
        self.asked.append(request.user)
        await asyncio.sleep(0.01)
        if request.user == "refuse":
            raise RefusedError("no")
        return Answer(request.user.upper(), 3, 2, score=1.5)

    async def cut(self, texts, tokens):
        return [text[:tokens] for text in texts]

    async def close(self):
        pass


def ask(folder, *users):
    """Ask an echo for the answers to `users`, all at once; return answers, what was asked of it, and usage."""

    async def run():
        engine = Echo()
        remembering = Remembering(engine, Answers(folder))
        made = await asyncio.gather(*(remembering.generate(Request("p@1", "", user)) for user in users))
        await remembering.close()
        return made, engine.asked, remembering.usage

    return asyncio.run(run())


def test_what_was_asked_is_not_asked_again(tmp_path):
    folder = str(tmp_path)
    made, asked, usage = ask(folder, "a", "b")
    assert made == [Answer("A", 3, 2, score=1.5), Answer("B", 3, 2, score=1.5)]
    assert usage == Usage(2, 0, 6, 4)
    again, asked, usage = ask(folder, "b", "c", "a")
    assert [answer.text for answer in again] == ["B", "C", "A"]
    assert asked == ["c"]
    assert usage == Usage(1, 2, 3, 2)


def test_the_same_at_the_same_time_is_asked_once(tmp_path):
    made, asked, usage = ask(str(tmp_path), "a", "a", "a")
    assert {answer.text for answer in made} == {"A"}
    assert asked == ["a"]
    assert usage.remembered == 2


def test_what_is_refused_is_not_remembered(tmp_path):
    for _ in range(2):
        with pytest.raises(RefusedError):
            ask(str(tmp_path), "refuse")
    assert parts(str(tmp_path)) == []


def test_everything_that_changes_an_answer_changes_the_key():
    request = Request("p@1", "s", "u")
    others = [
        Request("p@2", "s", "u"),
        Request("p@1", "t", "u"),
        Request("p@1", "s", "v"),
        Request("p@1", "s", "u", temperature=0.5),
        Request("p@1", "s", "u", seed=1),
        Request("p@1", "s", "u", schema="{}"),
        Request("p@1", "s", "u", max_tokens=1),
    ]
    keys = {key_of("m", request), key_of("n", request), *(key_of("m", other) for other in others)}
    assert len(keys) == len(others) + 2


def test_compacting_loses_nothing(tmp_path):
    folder = str(tmp_path)
    for user in "abcdef":
        ask(folder, user, "same")
    assert len(parts(folder)) == 6
    compact(folder)
    assert len(parts(folder)) == 1
    _, asked, _ = ask(folder, *"abcdef", "same")
    assert asked == []
    assert len(Answers(folder)) == 7


def test_a_damaged_part_is_said(tmp_path):
    (tmp_path / "part-0.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        Answers(str(tmp_path))
