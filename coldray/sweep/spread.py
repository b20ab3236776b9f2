"""One training over several workers: Ray Train starts them, each takes a part of every batch, and they add their gradients."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from coldray import storage
from coldray.data.dataset import Split
from coldray.training import TrainingSettings
from coldray.training.shard import Shard
from coldray.training.trainer import Report, Trainer

FAILURES = 3
"""times that the workers are started again, from the last epoch, after one died"""
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Spread:
    """How many workers train a backbone, and what each has."""

    workers: int
    cpus: int
    """of a worker, which is also its number of threads"""
    gpus: float

    def train(
        self,
        split: Split,
        settings: TrainingSettings,
        seed: int,
        content: npt.NDArray[np.float32] | None,
        folder: str,
        state: str,
    ) -> Iterator[Report]:
        """Train the backbone of `folder` and yield the report of each epoch; all workers see `folder` and `state`.

        Raises what Ray Train raises when the workers fail once more than `FAILURES` times.
        """
        reports = Queue(actor_options={"num_cpus": 0})
        given = {"settings": settings, "seed": seed, "folder": folder, "state": state, "cpus": self.cpus}
        given |= {"data": ray.put((split, content)), "reports": reports}
        resources = {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}
        scaling = ray.train.ScalingConfig(
            num_workers=self.workers, use_gpu=self.gpus > 0, resources_per_worker=resources
        )
        run = ray.train.RunConfig(
            storage_path=storage.join(
                folder.rsplit("/", 2)[0], "tune"
            ),  # beside what Tune keeps, which nobody reads
            failure_config=ray.train.FailureConfig(max_failures=FAILURES),
        )
        trainer = TorchTrainer(
            _work,
            train_loop_config=given,
            scaling_config=scaling,
            run_config=run,
        )
        pool = ThreadPoolExecutor(1)
        try:
            fitting = pool.submit(trainer.fit)
            while not fitting.done() or not reports.empty():
                try:
                    yield reports.get(timeout=_POLL_SECONDS)
                except Empty:
                    continue
            fitting.result()
        finally:
            reports.shutdown()
            pool.shutdown(wait=False)


def _work(given: dict[str, Any]) -> None:
    """Train as one of the workers."""
    context = ray.train.get_context()
    split, content = ray.get(given["data"])
    torch.set_num_threads(given["cpus"])
    shard = Shard(context.get_world_rank(), context.get_world_size())
    trainer = Trainer(
        split,
        given["settings"],
        given["seed"],
        content,
        device=get_device(),
        state_file=given["state"],
        shard=shard,
    )
    for _, report in trainer.epochs():
        if shard.first:
            given["reports"].put(report)
    if shard.first:
        trainer.backbone.save(given["folder"])
