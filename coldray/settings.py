"""The base of every settings model, and the two things done with one: read it from YAML, and hash it."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coldray.errors import UserError


class Settings(BaseModel):
    """A frozen group of settings; a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def digest(value: Any) -> str:
    """Return 16 hex digits that identify `value`: settings, or JSON-like data.

    Keys are sorted, so that the order in which a file names them does not matter.
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_yaml(path: str | Path, kind: type[S]) -> S:
    """Return the settings in the YAML file `path`, checked in full.

    Raises UserError, one line, naming the file, the key and what is wrong with it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name an existing YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    try:
        return kind.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not YAML ({' '.join(str(error).split())}); correct the file") from error
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Return a validation error as one line: every key at fault and what is wrong with it."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        if fault["type"] == "extra_forbidden":
            faults.append(f"{key}: no such key; remove it or correct its name")
        else:
            faults.append(f"{key}: {fault['msg']} (is {fault['input']!r:.80})")
    return "; ".join(faults)
