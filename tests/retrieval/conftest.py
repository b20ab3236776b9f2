"""A scripted model for the retrieval: it judges by words, so that tests know what is right."""

import json
import re

import pytest

from coldray.llm.answers import Usage
from coldray.llm.engine import Answer, RefusedError


class WordModel:
    """Likes facts and candidates that share a word with the last title of the history. Counts what it is asked."""

    def __init__(self, longest=100_000):
        self.asked, self.longest = [], longest

    async def ask(self, request):
        self.asked.append(request)
        if len(request.user) > self.longest:
            raise RefusedError("too long")
        answer = self.answer(request)
        return answer, Usage(1, 0, answer.prompt_tokens, answer.completion_tokens)

    def answer(self, request):
        history = re.search(r"<history>\n(.*?)\n</history>", request.user, re.S)[1].splitlines()
        if request.scale:
            fact = re.search(r"<fact>\n(.*)\n</fact>", request.user, re.S)[1]
            return Answer("9", 100, 1, score=9.0 if self.likes(history, fact) else 1.0)
        if request.choices:
            lines = re.search(r"<candidates>\n(.*)\n</candidates>", request.user, re.S)[1].splitlines()
            numbered = {line.split(". ")[0]: line for line in lines if line[0].isdigit()}
            liked = [number for number in request.choices if self.likes(history, numbered[number])]
            return Answer((liked or list(request.choices))[-1], 300, 2)
        facts = re.findall(r"^\d+\. (.*)$", request.user, re.M)
        scores = [9 if self.likes(history, fact) else 1 for fact in facts]
        if request.schema:
            return Answer(json.dumps(scores), 200, 2 * len(scores))
        lines = [f"{i + 1}: {score} because of its words" for i, score in enumerate(scores)]
        return Answer("\n".join([*lines[:-1], "and the last is fine"]), 200, 8 * len(scores))

    @staticmethod
    def likes(history, text):
        return bool(set(history[-1].lower().split()[1:]) & set(re.findall(r"\w+", text.lower())))

    async def cut(self, texts, tokens):
        return [text[: 4 * tokens] for text in texts]


@pytest.fixture
def word_model():
    return WordModel()


@pytest.fixture
def make_word_model():
    return WordModel
