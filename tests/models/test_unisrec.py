import torch
from torch.nn import functional as F

from coldray.models.sasrec import SASRecSettings
from coldray.models.unisrec import Adaptor, UniSRec, UniSRecSettings

SETTINGS = UniSRecSettings(
    encoder=SASRecSettings(dim=6, dropout=0.0, max_length=5), experts=3, adaptor_dropout=0.0
)


def model(content):
    torch.manual_seed(0)
    return UniSRec(content, 40, SETTINGS)


def test_the_adaptor_is_a_mixture_of_whitening_layers():
    torch.manual_seed(0)
    adaptor = Adaptor(4, 3, experts=2, dropout=0.0).eval()
    torch.nn.init.normal_(adaptor.bias)
    torch.nn.init.normal_(adaptor.gate)
    x = torch.randn(5, 4)
    gates = (x @ adaptor.gate).softmax(dim=1)
    expected = sum(gates[:, [g]] * ((x - adaptor.bias[g]) @ adaptor.weight[g]) for g in range(2))
    torch.testing.assert_close(adaptor(x), expected)


def test_the_second_stage_trains_the_adaptor_alone(tiny_content):
    made = model(tiny_content)
    everything = {id(p) for p in made.begin("pretrain")}
    few = {id(p) for p in made.begin("fine-tune")}
    assert everything == {id(p) for p in made.parameters()}
    assert few == {id(p) for p in made.adaptor.parameters()}


def test_the_fine_tuning_loss_by_hand(tiny_content):
    made = model(tiny_content).eval()
    made.begin("fine-tune")
    items, lengths = torch.tensor([[3, 5, 9], [7, 2, 0]]), torch.tensor([3, 2])
    table = made.adaptor(made.content[:41])
    expected = []
    for row, n in zip(items.tolist(), lengths.tolist(), strict=True):
        for i in range(n - 1):
            query = F.normalize(made.encoder(table[torch.tensor([row[: i + 1]])])[0, -1], dim=0)
            logits = F.normalize(table[1:], dim=1) @ query / 0.07
            expected.append(F.cross_entropy(logits[None], torch.tensor([row[i + 1] - 1])))
    torch.testing.assert_close(made.loss(items, lengths), torch.stack(expected).mean())


def test_an_item_is_no_negative_of_itself(tiny_content):
    """Two sequences with the same next item: telling it from the only other one is all there is to it."""
    made = model(tiny_content).eval()
    made.begin("pretrain")
    made.settings = made.settings.model_copy(update={"sequence_weight": 0.0})
    same = made.loss(torch.tensor([[3, 5], [4, 5]]), torch.tensor([2, 2]))
    assert same.item() == 0


def test_cold_items_are_ranked_by_their_text(tiny_content):
    scorer = model(tiny_content).scorer()
    assert scorer.num_items == 48
    with torch.no_grad():
        scores = scorer.scores(scorer.encode(torch.tensor([[41, 3]]), torch.tensor([2])))
    assert scores.shape == (1, 49)
    assert scores[0, 41:].std() > 0
