import numpy as np
import pytest
import torch

from coldray.data.batches import DeviceSequences
from coldray.errors import UserError
from coldray.evaluation import evaluate, summarise
from coldray.models.baselines import Popularity
from coldray.models.sasrec import SASRecSettings
from coldray.training.content import KINDS, fit, load_weights, make_model, save_weights

SMALL = {
    "unisrec": {
        "encoder": SASRecSettings(dim=16, dropout=0.1, max_length=8),
        "experts": 2,
        "pretrain_epochs": 3,
        "max_epochs": 15,
        "batch_size": 64,
        "learning_rate": 0.01,
    },
    "clcrec": {
        "dim": 16,
        "hidden": 32,
        "max_epochs": 40,
        "batch_size": 32,
        "learning_rate": 0.01,
        "regularisation": 0.0,
    },
    "tdro": {
        "dim": 16,
        "hidden": 32,
        "max_epochs": 40,
        "batch_size": 32,
        "learning_rate": 0.01,
        "regularisation": 0.0,
    },
}
CPU = torch.device("cpu")


def settings_of(method, **changes):
    return KINDS[method][1](**SMALL[method] | changes)


def metrics(scorer, split):
    found = evaluate(scorer, split.test, split.num_warm, headline_only=True)
    return summarise(found.rank_all_kept, found.cold)


def loss_of(model, split):
    """Return the mean loss over training sequences, that of TDRO before groups are weighted."""
    sequences = DeviceSequences.of(split.train)
    ids = torch.from_numpy(np.flatnonzero(split.train.lengths > 1))
    torch.manual_seed(0)
    model.begin(model.stages[-1])
    with torch.no_grad():
        batch = sequences.padded(ids, 8)
        return float(model.losses(*batch)[0].mean() if hasattr(model, "losses") else model.loss(*batch))


@pytest.fixture(scope="module")
def fitted(tiny_split, tiny_content):
    made = {}
    for method in KINDS:
        model = make_model(method, tiny_content, tiny_split.num_warm, settings_of(method), 1)
        reports = list(fit(model, tiny_split, 1, CPU))
        made[method] = model, reports
    return made


@pytest.mark.parametrize("method", KINDS)
def test_it_learns_and_ranks_cold_items(method, fitted, tiny_split, tiny_content):
    """Groups are apart in the content: warm and cold targets of one's own group come first, which popularity cannot do."""
    model, _ = fitted[method]
    fresh = make_model(method, tiny_content, tiny_split.num_warm, settings_of(method), 1)
    assert loss_of(model, tiny_split) < 0.9 * loss_of(fresh, tiny_split)
    found, popular = (
        metrics(model.scorer(), tiny_split),
        metrics(Popularity(tiny_split.train_counts), tiny_split),
    )
    assert found["warm_NDCG@10"] > 1.5 * popular["warm_NDCG@10"]
    assert popular["cold_Recall@10"] == 0
    assert found["cold_Recall@10"] > 0.3


@pytest.mark.parametrize("method", KINDS)
def test_the_weights_are_those_of_the_best_epoch(method, fitted, tiny_split):
    from coldray.training.content import validation

    model, reports = fitted[method]
    best = max(report.get("validation_ndcg_at_10", 0) for _, report in reports)
    now = validation(model.scorer(), tiny_split.validation, tiny_split.num_warm, warm_only=True)
    assert now["validation_ndcg_at_10"] == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("method", KINDS)
def test_weights_come_back_and_the_same_seed_gives_them_again(
    method, fitted, tiny_split, tiny_content, tmp_path
):
    model, _ = fitted[method]
    path = str(tmp_path / "model.safetensors")
    save_weights(model, path)
    other = make_model(method, tiny_content, tiny_split.num_warm, settings_of(method), 9)
    load_weights(other, path)
    again = make_model(method, tiny_content, tiny_split.num_warm, settings_of(method), 1)
    list(fit(again, tiny_split, 1, CPU))
    histories, lengths = torch.tensor([[1, 2, 0], [41, 3, 4]]), torch.tensor([2, 3])
    with torch.no_grad():
        scores = [
            one.scores(one.encode(histories, lengths)).clone()
            for one in (m.scorer() for m in (model, other, again))
        ]
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])


@pytest.mark.parametrize("method", KINDS)
def test_neither_cold_items_nor_test_users_reach_the_training(method, fitted, tiny_split, tiny_content):
    from dataclasses import replace

    model, _ = fitted[method]
    content = tiny_content.copy()
    content[tiny_split.num_warm + 1 :] = 7.0
    blind = replace(tiny_split, test=tiny_split.test.take(np.array([0])))
    other = make_model(method, content, tiny_split.num_warm, settings_of(method), 1)
    list(fit(other, blind, 1, CPU))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


def test_foreign_weights_are_refused(fitted, tiny_split, tiny_content, tmp_path):
    (tmp_path / "x").write_bytes(b"no weights")
    model = make_model("clcrec", tiny_content, tiny_split.num_warm, settings_of("clcrec"), 1)
    with pytest.raises(UserError, match="is not what was trained"):
        load_weights(model, str(tmp_path / "x"))
    save_weights(fitted["unisrec"][0], str(tmp_path / "y"))
    with pytest.raises(UserError, match="delete it and run again"):
        load_weights(model, str(tmp_path / "y"))


def test_sequences_of_one_item_teach_nothing(tiny_split, tiny_content):
    from dataclasses import replace

    first = tiny_split.train.offsets[:-1]
    short = replace(tiny_split.train, offsets=np.arange(201), items=tiny_split.train.items[first])
    model = make_model("clcrec", tiny_content, tiny_split.num_warm, settings_of("clcrec"), 1)
    with pytest.raises(UserError, match="no training user has two items"):
        list(fit(model, replace(tiny_split, train=short), 1, CPU))
