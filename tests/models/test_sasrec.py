import pytest
import torch
from pydantic import ValidationError

from coldray.models.sasrec import SASRec, SASRecSettings


@pytest.fixture(params=[1, 2])
def encoder(request):
    torch.manual_seed(0)
    return SASRec(SASRecSettings(dim=8, num_heads=request.param, max_length=6, dropout=0.4))


def test_no_position_sees_later_items_or_padding(encoder) -> None:
    vectors = torch.randn(3, 6, 8)
    changed = vectors.clone()
    changed[:, 4:] = 0
    for mode in (True, False):
        encoder.train(mode)
        torch.manual_seed(1)
        first = encoder(vectors)
        torch.manual_seed(1)
        second = encoder(changed)
        torch.testing.assert_close(first[:, :4], second[:, :4])
        assert not torch.allclose(first[:, 4:], second[:, 4:])


def test_attention_written_out_equals_the_fused_one(encoder) -> None:
    vectors = torch.randn(3, 6, 8)
    fused = encoder.eval()(vectors)
    for block in encoder.blocks:
        block.train()
        block.dropout.rate = (
            1e-9  # not zero, so that the written-out path runs, and rounds to dropping nothing
        )
    encoder.dropout.rate = 0
    torch.testing.assert_close(encoder(vectors), fused)


def test_a_shorter_batch_gives_the_same(encoder) -> None:
    encoder.eval()
    vectors = torch.randn(2, 6, 8)
    torch.testing.assert_close(encoder(vectors)[:, :3], encoder(vectors[:, :3]))


def test_heads_have_to_divide_the_size() -> None:
    with pytest.raises(ValidationError, match="multiple"):
        SASRecSettings(dim=8, num_heads=3)
