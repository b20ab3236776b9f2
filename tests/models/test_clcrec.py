import torch

from coldray.models.clcrec import CLCRec, CLCRecSettings, contrast, positive_pairs


def test_contrast_by_hand():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    positives = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    negatives = torch.tensor([[0.0, 1.0]])
    expected = [
        -torch.log_softmax(torch.tensor([1.0, 0.0]) / 0.5, 0)[0],
        -torch.log_softmax(torch.tensor([0.0, 2.0]) / 0.5, 0)[0],
    ]
    torch.testing.assert_close(contrast(anchors, positives, negatives, 0.5), torch.stack(expected))


def test_pairs_leave_out_padding_and_sequences_of_one():
    rows, items = positive_pairs(torch.tensor([[3, 4, 0], [5, 0, 0], [6, 7, 8]]), torch.tensor([2, 1, 3]))
    assert rows.tolist() == [0, 0, 2, 2, 2]
    assert items.tolist() == [3, 4, 6, 7, 8]


def test_an_item_does_not_explain_itself(tiny_content):
    """What a user is without the item in question does not depend on that item's vector among those taken."""
    torch.manual_seed(0)
    model = CLCRec(tiny_content, 40, CLCRecSettings(dim=4, content_weight=0.0, content_share=0.0))
    items, lengths = torch.tensor([[3, 4]]), torch.tensor([2])
    (gradient,) = torch.autograd.grad(model.losses(items, lengths)[0][0], model.taken)
    assert gradient[3].abs().sum() == 0
    assert gradient[4].abs().sum() > 0


def test_warm_items_have_vectors_and_cold_ones_their_content(tiny_content):
    torch.manual_seed(0)
    model = CLCRec(tiny_content, 40, CLCRecSettings(dim=4))
    scorer = model.scorer()
    user = torch.eye(4)
    scores = scorer.scores(user)
    torch.testing.assert_close(scores[:, 1:41], model.items[1:].T)
    torch.testing.assert_close(scores[:, 41:], model.features(torch.arange(41, 49)).T)
    only_cold = scorer.encode(torch.tensor([[41, 42]]), torch.tensor([2]))
    assert only_cold.abs().sum() == 0
