import pytest
import torch
from torch.nn import functional as F

from coldray.models import losses
from coldray.models.losses import full_softmax, sampled_softmax


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(50, 8, dtype=torch.float64, generator=generator).requires_grad_()
    items = torch.randn(30, 8, dtype=torch.float64, generator=generator).requires_grad_()
    return queries, items, torch.randint(0, 30, (50,), generator=generator)


@pytest.mark.parametrize("chunk", [1 << 30, 30 * 8 * 7, 1])
def test_the_full_softmax_is_cross_entropy_in_any_chunks(data, chunk, monkeypatch) -> None:
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", chunk)
    queries, items, targets = data
    expected = F.cross_entropy(queries @ items.T, targets)
    loss = full_softmax(queries, targets, items, torch.float64)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * loss, [queries, items]),
        torch.autograd.grad(3 * expected, [queries, items]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_full_softmax_survives_large_logits(data) -> None:
    queries, items, targets = data
    loss = full_softmax(1e4 * queries, targets, items, torch.float64)
    torch.testing.assert_close(loss, F.cross_entropy(1e4 * queries @ items.T, targets))


def test_bfloat16_products_give_nearly_the_same_gradients(data) -> None:
    queries, items, targets = (
        value.detach().float() if value.is_floating_point() else value for value in data
    )
    exact, rough = (
        torch.autograd.grad(full_softmax(q := queries.clone().requires_grad_(), targets, items, dtype), q)[0]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.cosine_similarity(exact.flatten(), rough.flatten(), dim=0) > 0.999


def test_the_sampled_softmax_is_cross_entropy_over_target_and_other_negatives(data) -> None:
    queries, items, targets = data
    negatives = torch.randint(0, 30, (10,), generator=torch.Generator().manual_seed(1))
    assert (targets[:, None] == negatives).any()
    log_expected = torch.linspace(-3, 1, 10, dtype=torch.float64)
    logits = (queries @ items[negatives].T - log_expected).masked_fill(
        targets[:, None] == negatives, float("-inf")
    )
    positive = (queries * items[targets]).sum(dim=1, keepdim=True)
    expected = F.cross_entropy(torch.cat([positive, logits], dim=1), torch.zeros(50, dtype=torch.long))
    loss = sampled_softmax(queries, targets, items[targets], negatives, items[negatives], log_expected)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss, [queries, items]),
        torch.autograd.grad(expected, [queries, items]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_target_whose_negatives_are_all_itself_has_no_loss(data) -> None:
    queries, items, _ = data
    targets, negatives = torch.tensor([4]), torch.tensor([4, 4])
    loss = sampled_softmax(
        queries[:1], targets, items[targets], negatives, items[negatives], torch.zeros(2, dtype=torch.float64)
    )
    assert loss.item() == 0


@pytest.mark.parametrize("popular", [0.0, 0.5])
def test_the_sampled_softmax_estimates_the_full_one(popular) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(n, 8, generator=generator) / 2 for n in (20, 200))
    targets = torch.randint(0, 200, (20,), generator=generator)
    shares = (1 - popular) / 200 + popular * torch.softmax(torch.randn(200, generator=generator), dim=0)
    negatives = torch.multinomial(shares, 50_000, replacement=True, generator=generator)
    log_expected = (50_000 * shares).log()[negatives]
    loss = sampled_softmax(queries, targets, items[targets], negatives, items[negatives], log_expected)
    torch.testing.assert_close(loss, full_softmax(queries, targets, items), atol=0.01, rtol=0)
