import torch

from coldray.models.sasrec import SASRec, SASRecSettings
from coldray.models.scorers import SASRecScorer


def test_scores_are_inner_products_with_the_last_query_and_empty_histories_score_zero() -> None:
    torch.manual_seed(0)
    encoder = SASRec(SASRecSettings(dim=8, max_length=4))
    vectors = torch.randn(11, 8)
    scorer = SASRecScorer(encoder, vectors)
    histories = torch.tensor([[3, 5, 0], [1, 2, 9], [0, 0, 0]])
    with torch.inference_mode():
        scores = scorer.scores(scorer.encode(histories, torch.tensor([2, 3, 0])))
        alone = encoder(vectors[histories[:1, :2]])[:, -1] @ vectors.T
    torch.testing.assert_close(scores[:1], alone)
    assert scores[2].abs().max() == 0
    assert scorer.num_items == 10


def test_an_item_bias_is_added_to_the_scores() -> None:
    torch.manual_seed(0)
    encoder = SASRec(SASRecSettings(dim=8, max_length=4))
    vectors, bias, users = torch.randn(11, 8), torch.randn(11), torch.randn(3, 8)
    plain, biased = SASRecScorer(encoder, vectors), SASRecScorer(encoder, vectors, bias)
    torch.testing.assert_close(biased.scores(users), plain.scores(users) + bias)
