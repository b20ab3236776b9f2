"""Several processes that train together take the steps that one takes."""

import os
import socket

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from coldray.data.batches import Plan
from coldray.training.shard import Shard
from coldray.training.trainer import Trainer


def gradients(trainer):
    """Return the gradients of the first batch, with negatives of the same seed whoever draws them."""
    torch.manual_seed(5)
    if trainer.negatives_from is not None:
        trainer.negatives_from.manual_seed(5)
    plan = trainer.plan(1)
    trainer.train_epoch(Plan(plan.order[: plan.starts[1]], plan.starts[:2], plan.widths[:1], plan.totals[:1]))
    return [parameter.grad.clone() for parameter in trainer.optimiser.param_groups[0]["params"]]


def part(rank, world, port, split, settings, content, folder):
    """Train as one of several processes; leave the weights and the reports."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    distributed.init_process_group("gloo", rank=rank, world_size=world)
    shard = Shard(rank, world)
    first = gradients(Trainer(split, settings, 42, content, shard=shard))
    trainer = Trainer(split, settings, 42, content, state_file=f"{folder}/state", shard=shard)
    reports = [report for _, report in trainer.epochs()]
    torch.save([first, trainer.backbone.weights(), reports], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def together(world, split, settings, content, folder):
    """Return what each of several processes leaves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (world, port, split, settings, content, str(folder))
    multiprocessing.spawn(part, arguments, nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax"])
def test_two_processes_end_where_one_does(tiny_split, tiny_content, tiny_settings, tmp_path, loss):
    plain = tiny_settings().training
    quiet = plain.encoder.model_copy(update={"dropout": 0.0})
    settings = plain.model_copy(
        update={"encoder": quiet, "loss": loss, "batch_size": 7, "max_epochs": 3, "precision": "float32"}
    )
    alone = Trainer(tiny_split, settings, 42, tiny_content)
    reports = [report for _, report in alone.epochs()]
    expected_first = gradients(Trainer(tiny_split, settings, 42, tiny_content))
    (first, ours, told), (first_too, theirs, told_too) = together(
        2, tiny_split, settings, tiny_content, tmp_path
    )
    for one, other, expected in zip(told, told_too, reports, strict=True):
        for name in ("train_loss", "validation_ndcg_at_10", "validation_recall_at_10"):
            assert one[name] == other[name]
            assert one[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-3)
    for one, other, expected in zip(first, first_too, expected_first, strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(one, expected, rtol=1e-4, atol=1e-6)
    assert ours.keys() == alone.backbone.weights().keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "state").exists()


def test_every_sequence_is_in_one_part(tiny_split, tiny_content, tiny_settings):
    settings = tiny_settings().training
    whole = Trainer(tiny_split, settings, 42, tiny_content).plan(1)
    parts = [
        whole.part(rank, 3, tiny_split.train.lengths, settings.encoder.max_length + 1) for rank in range(3)
    ]
    assert sorted(np.concatenate([one.order for one in parts])) == sorted(whole.order)
    assert np.array_equal(sum(one.totals for one in parts), whole.totals)
    assert all(len(one) == len(whole) for one in parts)


def test_a_rank_is_below_their_number():
    with pytest.raises(ValueError, match="ranks go from 0 to 1"):
        Shard(2, 2)
