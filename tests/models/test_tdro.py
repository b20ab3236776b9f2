import pytest
import torch

from coldray.models.tdro import TDRO, TDROSettings


def model(content, **changes):
    torch.manual_seed(0)
    return TDRO(content, 40, TDROSettings(**{"dim": 4, "hidden": 8, "groups": 4, "periods": 2} | changes))


def batch():
    return torch.tensor([[3, 14, 25, 36], [5, 16, 0, 0], [7, 18, 29, 0]]), torch.tensor([4, 2, 3])


def test_items_are_grouped_by_content(tiny_content):
    groups = model(tiny_content).group
    warm = torch.from_numpy(tiny_content[1:41])
    centres = torch.stack([warm[groups[1:] == g].mean(dim=0) for g in groups[1:].unique()])
    assert len(centres) == 4
    nearest = torch.cdist(warm, centres).argmin(dim=1)
    assert (nearest == groups[1:]).float().mean() > 0.9


def test_the_trend_is_that_of_gradients_taken_one_by_one(tiny_content):
    made = model(tiny_content)
    items, lengths = batch()
    losses, _ = made.losses(items, lengths)
    members = torch.zeros(8, len(losses))
    cell = torch.arange(len(losses)) % 8
    members[cell, torch.arange(len(losses))] = 1
    directed = []
    for row in members:
        (gradient,) = torch.autograd.grad((losses * row).sum(), made.last.weight, retain_graph=True)
        level = (losses.detach() * row).sum() / row.sum().clamp(min=1)
        directed.append(gradient.flatten() / (gradient.norm() + 1e-16) * level**0.2)
    by_group = torch.stack(directed).view(4, 2, -1)
    late = torch.softmax(torch.exp(0.2 * torch.arange(2)), dim=0)
    expected = by_group.mean(dim=1) @ (by_group * late[None, :, None]).mean(dim=(0, 1))
    torch.testing.assert_close(made._trend(losses, members), expected, rtol=1e-3, atol=1e-5)


def test_bad_groups_gain_weight(tiny_content):
    """Without the shifting factor a group's weight follows its loss."""
    made = model(tiny_content, shift=0.0, step_size=1.0)
    items, lengths = batch()
    torch.manual_seed(1)
    made.loss(items, lengths)
    assert made.weights.sum().item() == pytest.approx(1)
    order = made.running.argsort()
    assert (made.weights[order].diff() >= 0).all()


def test_a_group_that_is_not_there_keeps_its_running_loss(tiny_content):
    made = model(tiny_content, streaming=0.5)
    made.running += 3.0
    made.loss(torch.tensor([[1, 2]]), torch.tensor([2]))
    absent = [g for g in range(4) if g != made.group[1]]
    torch.testing.assert_close(made.running[absent], torch.full((3,), 3.0))
