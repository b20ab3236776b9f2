import json

import pytest
import torch

from coldray.errors import UserError
from coldray.training import Backbone, train


@pytest.fixture
def backbone(tiny_split, tiny_content, tiny_settings):
    return train(tiny_split, tiny_settings(training={"max_epochs": 1}).training, 42, tiny_content)


def test_a_backbone_comes_back_as_it_was(backbone, tmp_path) -> None:
    backbone.save(str(tmp_path))
    loaded = Backbone.load(str(tmp_path))
    assert all(torch.equal(loaded.weights()[name], value) for name, value in backbone.weights().items())
    assert (loaded.settings, loaded.seed, loaded.epochs) == (
        backbone.settings,
        backbone.seed,
        backbone.epochs,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone.json", "model.safetensors"]


def test_what_is_not_a_whole_backbone_is_told(backbone, tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Backbone.load(str(tmp_path))
    backbone.save(str(tmp_path))
    record = json.loads((tmp_path / "backbone.json").read_text())
    (tmp_path / "backbone.json").write_text(json.dumps({k: v for k, v in record.items() if k != "seed"}))
    with pytest.raises(UserError, match="no whole backbone"):
        Backbone.load(str(tmp_path))
    (tmp_path / "backbone.json").write_text(
        json.dumps(record | {"settings": record["settings"] | {"hook": "x"}})
    )
    with pytest.raises(UserError, match="hook: no such key"):
        Backbone.load(str(tmp_path))
    (tmp_path / "backbone.json").write_text(json.dumps(record))
    whole = (tmp_path / "model.safetensors").read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"no whole backbone .*; delete it and train again"):
            Backbone.load(str(tmp_path))
    settings = record["settings"] | {"encoder": record["settings"]["encoder"] | {"num_blocks": 3}}
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "backbone.json").write_text(json.dumps(record | {"settings": settings}))
    with pytest.raises(UserError, match="no whole backbone") as error:
        Backbone.load(str(tmp_path))
    assert "\n" not in str(error.value)
    (tmp_path / "backbone.json").write_text(json.dumps(record))
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickled")
    with pytest.raises(UserError, match="no whole backbone"):
        Backbone.load(str(tmp_path))


def test_only_delta_has_residuals(tiny_split, tiny_content, tiny_settings) -> None:
    settings = tiny_settings(training={"max_epochs": 1}).training.model_copy(
        update={"variant": "content-init"}
    )
    with pytest.raises(ValueError, match="no residuals"):
        _ = train(tiny_split, settings, 42, tiny_content).residuals
