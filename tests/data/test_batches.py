import numpy as np
import torch

from coldray.data.batches import DeviceSequences, plan_batches


def test_padding_is_on_the_right_and_long_histories_keep_their_end(tiny_split) -> None:
    sequences = DeviceSequences.of(tiny_split.test)
    ids = torch.tensor([3, 0, 11])
    items, lengths = sequences.padded(ids, 5)
    for row, i in enumerate(ids.tolist()):
        start, end = tiny_split.test.offsets[i], tiny_split.test.offsets[i + 1]
        expected = tiny_split.test.items[start:end][-5:].tolist()
        assert items[row].tolist() == expected + [0] * (5 - len(expected))
        assert lengths[row] == len(expected)


def test_every_sequence_is_in_one_batch_of_fitting_width() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 1003)
    for rng in (None, np.random.default_rng(1)):
        plan = plan_batches(lengths, 32, 50, rng)
        seen = [ids.numpy() for ids, _, _ in plan.on("cpu")]
        assert sorted(np.concatenate(seen)) == list(range(1003))
        for ids, (_, width, total) in zip(seen, plan.on("cpu"), strict=True):
            assert width == min(lengths[ids].max(), 50)
            assert total == np.minimum(lengths[ids], 50).sum()


def test_little_is_padding_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).geometric(0.15, 5000)
    first, second = (plan_batches(lengths, 64, 50, np.random.default_rng(seed)) for seed in (1, 2))
    sizes = np.diff(first.starts)
    assert first.totals.sum() / (first.widths * sizes).sum() > 0.85
    assert not np.array_equal(first.order, second.order)
    assert np.array_equal(first.order, plan_batches(lengths, 64, 50, np.random.default_rng(1)).order)


def test_no_sequences_make_no_batches() -> None:
    assert len(plan_batches(np.zeros(0, np.int64), 8, 4)) == 0
    assert len(plan_batches(np.zeros(0, np.int64), 8, 4, np.random.default_rng(0))) == 0
