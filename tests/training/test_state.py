import pytest
import torch

from coldray.errors import UserError
from coldray.training.trainer import Trainer


def test_a_file_that_is_no_state_of_this_training_is_told(
    tiny_split, tiny_content, tiny_settings, tmp_path
) -> None:
    settings = tiny_settings().training
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    with pytest.raises(UserError, match="delete it to start anew"):
        Trainer(tiny_split, settings, 42, tiny_content, state_file=str(path))
    path.unlink()
    next(Trainer(tiny_split, settings, 42, tiny_content, state_file=str(path)).epochs())
    wider = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"max_length": 5})})
    with pytest.raises(UserError, match="not the state of this training"):
        Trainer(tiny_split, wider, 42, tiny_content, state_file=str(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not the state of this training"):
        Trainer(tiny_split, settings, 42, tiny_content, state_file=str(path))


def test_moments_and_weights_come_back(tiny_split, tiny_content, tiny_settings, tmp_path) -> None:
    path = str(tmp_path / "state.safetensors")
    first = Trainer(tiny_split, tiny_settings().training, 42, tiny_content, state_file=path)
    next(first.epochs())
    second = Trainer(tiny_split, tiny_settings().training, 42, tiny_content, state_file=path)
    for ours, theirs in zip(second.optimiser.state.values(), first.optimiser.state.values(), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ("step", "exp_avg", "exp_avg_sq"))
    assert second.state.best_value == first.state.best_value
