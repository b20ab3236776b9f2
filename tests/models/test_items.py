import pytest
import torch

from coldray.models.items import ItemEmbedding


@pytest.fixture
def content():
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    vectors[0] = 0
    return vectors


def test_delta_is_the_frozen_content_plus_a_residual(content) -> None:
    embedding = ItemEmbedding("delta", 8, 4, content, 0.5)
    assert torch.equal(embedding.table(), content)
    embedding(torch.tensor([0, 3, 3])).sum().backward()
    assert embedding.base is not None
    assert embedding.base.grad is None
    assert embedding.weight.grad is not None
    assert embedding.weight.grad[3].tolist() == [2] * 4
    assert embedding.weight.grad[0].tolist() == [0] * 4


def test_residuals_are_bounded_and_short_ones_left_alone(content) -> None:
    embedding = ItemEmbedding("delta", 8, 4, content, 0.5)
    with torch.no_grad():
        embedding.weight[1], embedding.weight[2] = torch.ones(4), torch.full((4,), 0.1)
    embedding.project()
    assert embedding.weight[1].norm().item() == pytest.approx(0.5)
    assert embedding.weight[2].tolist() == pytest.approx([0.1] * 4)


def test_the_other_variants_train_the_vectors_themselves(content) -> None:
    start = ItemEmbedding("content-init", 8, 4, content, 0.5)
    assert torch.equal(start.table(), content)
    assert start.max_delta_norm is None
    free = ItemEmbedding("sasrec", 8, 4)
    assert free.table()[0].tolist() == [0] * 4
    assert free.table()[1:].abs().min() > 0
    with pytest.raises(ValueError, match="content"):
        ItemEmbedding("delta", 8, 4)
