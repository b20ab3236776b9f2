import numpy as np
import pytest
import torch

from coldray.data.dataset import Sequences
from coldray.errors import UserError
from coldray.evaluation import evaluate, summarise
from coldray.models.baselines import Popularity
from coldray.models.scorers import SASRecScorer
from coldray.training import TrainingSettings, train
from coldray.training.trainer import Trainer, product_dtype


@pytest.fixture
def settings(tiny_settings):
    def make(**changes):
        return TrainingSettings.model_validate(tiny_settings().training.model_dump() | changes)

    return make


def warm_ndcg(scorer, split) -> float:
    result = evaluate(scorer, split.test, split.num_warm)
    return summarise(result.rank_all_kept, result.cold)["warm_NDCG@10"]


def same(first, second) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.weights().values(), second.weights().values(), strict=True)
    )


@pytest.mark.parametrize("variant", ["sasrec", "content-init", "delta"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax"])
def test_it_learns(tiny_split, tiny_content, settings, variant, loss) -> None:
    backbone = train(tiny_split, settings(variant=variant, loss=loss, max_epochs=12), 42, tiny_content)
    losses = [report["train_loss"] for report in backbone.epochs]
    assert losses[-1] < losses[0]
    with torch.no_grad():
        scorer = SASRecScorer(backbone.encoder, backbone.embedding.table())
    assert warm_ndcg(scorer, tiny_split) > 1.5 * warm_ndcg(Popularity(tiny_split.train_counts), tiny_split)


def test_the_best_epoch_is_restored_and_training_stops_early(tiny_split, tiny_content, settings) -> None:
    backbone = train(tiny_split, settings(learning_rate=0.05, max_epochs=60, patience=2), 42, tiny_content)
    values = [report["validation_ndcg_at_10"] for report in backbone.epochs]
    assert len(values) == backbone.best_epoch + 2 < 60
    assert values[backbone.best_epoch - 1] == max(values)
    with torch.no_grad():
        scorer = SASRecScorer(backbone.encoder, backbone.embedding.table())
    result = evaluate(scorer, tiny_split.validation, tiny_split.num_warm)
    assert summarise(result.rank_all_kept, result.cold)["NDCG@10"] == max(values)


def test_residuals_keep_the_bound_and_those_of_cold_items_stay_zero(
    tiny_split, tiny_content, settings
) -> None:
    backbone = train(tiny_split, settings(max_delta_norm=0.2, learning_rate=0.1), 42, tiny_content)
    norms = backbone.residuals.norm(dim=1)
    assert norms.max() <= 0.2 + 1e-6
    assert (norms[1 : tiny_split.num_warm + 1] > 0).all()
    assert (norms[tiny_split.num_warm + 1 :] == 0).all()
    assert norms[0] == 0
    assert torch.equal(backbone.embedding.base, torch.from_numpy(tiny_content))


def test_the_seed_decides_to_the_last_bit(tiny_split, tiny_content, settings) -> None:
    first, again, other = (train(tiny_split, settings(), seed, tiny_content) for seed in (42, 42, 43))
    assert same(first, again)
    assert not same(first, other)


def test_negatives_are_drawn_as_often_as_is_expected(tiny_split, tiny_content, settings) -> None:
    for kind in ("uniform", "mixed"):
        trainer = Trainer(tiny_split, settings(negatives=kind, num_negatives=200_000), 42, tiny_content)
        times = torch.bincount(trainer._negatives(), minlength=tiny_split.num_warm + 1)
        expected = trainer.log_expected.exp()
        torch.testing.assert_close(times[1:].float(), expected[1:], rtol=0.1, atol=0)
        assert times[0] == 0
    assert expected[1:].max() > 1.2 * expected[1:].min()


def test_mixed_negatives_learn_too(tiny_split, tiny_content, settings) -> None:
    backbone = train(tiny_split, settings(negatives="mixed", max_epochs=8), 42, tiny_content)
    assert backbone.epochs[-1]["train_loss"] < backbone.epochs[0]["train_loss"]


def test_a_sample_of_users_validates_and_is_the_same_for_every_seed(
    tiny_split, tiny_content, settings
) -> None:
    few = [
        Trainer(tiny_split, settings(validation_users=30), seed, tiny_content).validation for seed in (42, 43)
    ]
    assert few[0].users.equals(few[1].users)
    assert len(few[0]) == len(few[0].users.unique()) == 30
    whole = tiny_split.validation
    rows = [whole.users.to_pylist().index(user) for user in few[0].users.to_pylist()]
    assert np.array_equal(few[0].targets, whole.targets[rows])
    assert np.array_equal(few[0].lengths, whole.lengths[rows])
    assert Trainer(tiny_split, settings(validation_users=None), 42, tiny_content).validation is whole
    assert Trainer(tiny_split, settings(validation_users=200), 42, tiny_content).validation is whole


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_training_goes_on_to_the_same_weights(
    tiny_split, tiny_content, settings, killed_after, tmp_path
) -> None:
    whole = train(tiny_split, settings(), 42, tiny_content)
    state = str(tmp_path / "state.safetensors")
    epochs = Trainer(tiny_split, settings(), 42, tiny_content, state_file=state).epochs()
    for _ in range(killed_after):
        next(epochs)
    told = []
    resumed = train(
        tiny_split, settings(), 42, tiny_content, state_file=state, on_epoch=lambda e, _: told.append(e)
    )
    assert same(whole, resumed)
    assert told == list(range(killed_after + 1, 5))
    keys = ("train_loss", "validation_ndcg_at_10")
    assert [[r[k] for k in keys] for r in whole.epochs] == [[r[k] for k in keys] for r in resumed.epochs]


def test_nothing_of_validation_and_test_reaches_the_steps(tiny_split, tiny_content, settings) -> None:
    from dataclasses import replace

    random = np.random.default_rng(0)
    part = tiny_split.test
    scrambled = Sequences(
        part.users, part.offsets, random.permutation(part.items), random.permutation(part.targets)
    )
    changed = replace(tiny_split, test=scrambled)
    assert same(train(tiny_split, settings(), 42, tiny_content), train(changed, settings(), 42, tiny_content))


def test_what_cannot_be_trained_is_told(tiny_split, tiny_content, settings) -> None:
    from dataclasses import replace

    none = replace(tiny_split, validation=Sequences.from_table(tiny_split.validation.to_table().slice(0, 0)))
    with pytest.raises(UserError, match="no validation user"):
        Trainer(none, settings(), 42, tiny_content)
    with pytest.raises(UserError, match="needs item embeddings"):
        Trainer(tiny_split, settings(), 42)
    with pytest.raises(UserError, match="reduce it"):
        Trainer(tiny_split, settings(), 42, tiny_content[:, :4])


def test_precision_follows_the_device() -> None:
    cpu = torch.device("cpu")
    assert product_dtype(TrainingSettings(precision="float32"), cpu) == torch.float32
    assert product_dtype(TrainingSettings(precision="bfloat16"), cpu) == torch.bfloat16
    assert product_dtype(TrainingSettings(), torch.device("cuda")) == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax"])
def test_it_learns_on_a_gpu(tiny_split, tiny_content, settings, loss) -> None:
    backbone = train(tiny_split, settings(loss=loss, max_epochs=8), 42, tiny_content, device="cuda")
    assert backbone.epochs[-1]["train_loss"] < backbone.epochs[0]["train_loss"]
