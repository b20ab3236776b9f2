import pytest
from pydantic import ValidationError

from coldray.training import TrainingSettings


def test_the_defaults_are_the_papers() -> None:
    settings = TrainingSettings()
    assert (settings.variant, settings.loss, settings.max_delta_norm) == ("delta", "sampled_softmax", 0.5)
    assert (settings.learning_rate, settings.batch_size, settings.max_epochs, settings.patience) == (
        1e-3,
        128,
        100,
        5,
    )
    encoder = settings.encoder
    assert (encoder.num_blocks, encoder.num_heads, encoder.dropout) == (2, 1, 0.3)


@pytest.mark.parametrize(
    "wrong", [{"variant": "gru"}, {"loss": "bpr"}, {"dropout": 0.1}, {"max_delta_norm": 0}]
)
def test_what_is_not_known_or_out_of_range_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        TrainingSettings.model_validate(wrong)
