import torch

from coldray.models.dropout import Dropout, dropout_mask


def test_the_share_dropped_and_the_scale_are_right() -> None:
    torch.manual_seed(0)
    mask = dropout_mask(torch.empty(1000, 1001), 0.3)
    torch.testing.assert_close(mask.unique(), torch.tensor([0, 256 / (256 - 77)]))
    assert abs((mask == 0).float().mean() - 77 / 256) < 0.002
    assert abs(mask.mean() - 1) < 0.003


def test_neighbours_are_independent_and_the_seed_decides() -> None:
    torch.manual_seed(1)
    first = dropout_mask(torch.empty(100_000), 0.5)
    assert abs(torch.corrcoef(torch.stack([first[:-1], first[1:]]))[0, 1]) < 0.02
    torch.manual_seed(1)
    assert torch.equal(first, dropout_mask(torch.empty(100_000), 0.5))


def test_nothing_is_dropped_outside_training() -> None:
    x = torch.randn(5, 7)
    assert torch.equal(Dropout(0.9).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)
    assert (Dropout(0.9).train()(x) == 0).any()
