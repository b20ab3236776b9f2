"""Prompts: files with named slots, identified by their content. What fills a slot is data, never part of the prompt.

A prompt file has a line `[system]`, the system message, a line `[user]`, and the user's message, in which `{{ name }}` is
a slot. It says itself where data begins and ends, with tags such as <item>; in what fills a slot no tag can be written.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from coldray.errors import UserError
from coldray.llm.engine import Request

_SECTIONS = re.compile(r"\A\[system\]\n(?P<system>.*?)\n\[user\]\n(?P<user>.*)\Z", re.DOTALL)
_TURNS = re.compile(r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_[A-Z]+)\]", re.IGNORECASE)
"""words that some chat templates put between turns"""
_CONTROLS = {"Cc", "Cs", "Co", "Cn"}


def as_data(text: str) -> str:
    """Return `text` such that no model takes it for the end of data, a tag, or a turn of the conversation.

    Angle brackets, of which tags and the special tokens of models are made, become ‹ and ›; control characters, but for
    line breaks and tabs, become spaces.
    """
    return without_controls(_TURNS.sub(" ", text.replace("<", "‹").replace(">", "›")))


def without_controls(text: str) -> str:
    """Return `text` with spaces in the place of control characters, but for line breaks and tabs."""
    return "".join(" " if unicodedata.category(c) in _CONTROLS and c not in "\n\t" else c for c in text)


def one_line(text: str) -> str:
    """Return `text` on one line, without control characters and repeated space."""
    return " ".join(without_controls(text).split())


@dataclass(frozen=True)
class Prompt:
    """A prompt file."""

    name: str
    version: str
    """12 hex digits of its content"""
    system: str
    user: str

    @staticmethod
    def read(path: Path) -> "Prompt":
        """Return the prompt in a file. Raises UserError if it has not the two sections."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); name a prompt file") from error
        found = _SECTIONS.match(text)
        if found is None:
            raise UserError(
                f"{path}: is no prompt; it needs a line [system] at its beginning and a line [user]"
            )
        version = hashlib.sha256(text.encode()).hexdigest()[:12]
        return Prompt(path.stem, version, found["system"].strip(), found["user"].strip())

    def request(self, slots: dict[str, Any], **options: Any) -> Request:
        """Return the request that asks this prompt with `slots`; `options` are fields of `Request`.

        Text in the slots is made harmless with `as_data`, also inside lists and mappings. Raises UserError for a slot
        that the prompt has and `slots` has not.
        """
        environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        try:
            user = environment.from_string(self.user).render(_harmless(slots))
            system = environment.from_string(self.system).render(_harmless(slots))
        except TemplateError as error:
            raise UserError(f"prompt {self.name}: {error.message}; correct its file") from error
        return Request(f"{self.name}@{self.version}", system, user, **options)


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return as_data(value)
    if isinstance(value, dict):
        return {as_data(key): _harmless(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(item) for item in value]
    return value
