"""Bearer tokens: who may read, who may also write, and how fast.

Only SHA-256 hashes are kept. A token has 256 random bits, so that its hash need not be slow.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from coldray.errors import UserError, mended
from coldray.settings import Settings, explain

Role = Literal["read", "write"]
_NAME = re.compile(r"[\w.-]{1,64}")


class Token(Settings):
    """A token that is known by its hash. `write` may read, too."""

    name: str = Field(pattern=_NAME.pattern)
    role: Role
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def hash_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: str) -> list[Token]:
    """Return the tokens in a file. Raises UserError for a file that is none or that others may read."""
    try:
        with mended(path):
            mode, text = Path(path).stat().st_mode, Path(path).read_text(encoding="utf-8")
        rows = yaml.safe_load(text) or []
        tokens = [Token.model_validate(row) for row in rows]
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}; make tokens with: coldray serve token") from error
    except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no file of tokens; make one with: coldray serve token") from error
    if mode & 0o077:
        raise UserError(f"{path}: others may read it; chmod 600 {path}")
    return tokens


def add_token(path: str, name: str, role: Role) -> str:
    """Make a token, add its hash to a file that only its owner may read, and return the token.

    Raises UserError for a name that is taken.
    """
    file = Path(path)
    if not _NAME.fullmatch(name):
        raise UserError(f"{name}: take letters, digits, dots, dashes for the name of a token")
    with mended(path):
        there = read_tokens(path) if file.exists() else []
        if name in {token.name for token in there}:
            raise UserError(f"{name}: {path} has such a token; take another name, or remove its lines there")
        made = secrets.token_urlsafe(32)
        rows = [*there, Token(name=name, role=role, sha256=hash_of(made))]
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            yaml.safe_dump([row.model_dump() for row in rows], stream, sort_keys=False)
        fresh.replace(file)
    return made


def tokens_of(environment: Mapping[str, str]) -> list[Token]:
    """Return the tokens that the variables COLDRAY_READ_TOKENS and COLDRAY_WRITE_TOKENS name, separated by commas.

    Raises UserError for one that is short enough to be guessed.
    """
    roles: tuple[Role, Role] = ("read", "write")
    made = []
    for role in roles:
        variable = f"COLDRAY_{role.upper()}_TOKENS"
        for place, token in enumerate(filter(None, environment.get(variable, "").split(","))):
            if len(token) < 32:
                raise UserError(
                    f"{variable}: a token needs at least 32 characters; make one with: openssl rand -hex 32"
                )
            made.append(Token(name=f"{role}-{place}", role=role, sha256=hash_of(token)))
    return made


class Gate:
    """Decides about requests."""

    def __init__(self, tokens: Sequence[Token], rate: float, burst: int) -> None:
        self.tokens, self.rate, self.burst = list(tokens), rate, float(burst)
        self._left: dict[str, tuple[float, float]] = {}

    def who(self, header: str | None) -> Token | None:
        """Return the token of an Authorization header, or None. Takes as long whichever of them it is."""
        scheme, _, given = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not given.isascii():
            return None
        hashed, found = hash_of(given.strip()), None
        for token in self.tokens:
            if hmac.compare_digest(hashed, token.sha256):
                found = token
        return found

    def wait(self, name: str) -> float:
        """Count a request of `name`; return 0 if it may go on, else after how many seconds to try again."""
        now = time.monotonic()
        left, before = self._left.get(name, (self.burst, now))
        left = min(self.burst, left + (now - before) * self.rate)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) / self.rate
