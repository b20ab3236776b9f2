"""SASRec of coldray: train until validation stops improving, rank, and print the result as a line of JSON.

    python benchmarks/peers/coldray_run.py SETTINGS

Started by benchmarks/training.py.
"""

import time
from typing import Any

import torch
from measure import PeakMemory, deliver, read_settings

import coldray
from coldray.data.dataset import Split, load_split
from coldray.evaluation import evaluate, summarise
from coldray.models.sasrec import SASRecSettings
from coldray.models.scorers import SASRecScorer
from coldray.training.backbone import Backbone
from coldray.training.settings import TrainingSettings
from coldray.training.trainer import Trainer


def rank(backbone: Backbone, split: Split) -> dict[str, float]:
    """Return the test metrics of the weights as they are, and how long the ranking took."""
    started = time.perf_counter()
    with torch.no_grad():
        scorer = SASRecScorer(backbone.encoder, backbone.embedding.table())
    ranked = evaluate(scorer, split.test, split.num_warm, headline_only=True)
    seconds = time.perf_counter() - started
    metrics = summarise(ranked.rank_all_kept, ranked.cold)
    return {
        "rank_seconds": seconds,
        "ndcg_at_10": metrics["NDCG@10"],
        "recall_at_10": metrics["Recall@10"],
    }


def training_settings(settings: dict[str, Any]) -> TrainingSettings:
    """Return the settings as coldray takes them."""
    encoder = SASRecSettings(
        **{name: settings[name] for name in ("dim", "num_blocks", "num_heads", "dropout", "max_length")}
    )
    return TrainingSettings(
        variant="sasrec",
        encoder=encoder,
        loss=settings["loss"],
        num_negatives=settings["num_negatives"],
        negatives=settings["negatives"],
        learning_rate=settings["learning_rate"],
        batch_size=settings["batch_size"],
        max_epochs=settings["epochs"],
        patience=settings["patience"],
    )


def train(settings: dict[str, Any], split: Split, memory: PeakMemory) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer after its training and what was measured of it.

    `curve` has, for every epoch, the seconds that training alone and training with validation had taken by its end,
    and the test metric then. The test users are ranked outside both clocks, and nothing but this record is made of
    it: when to stop and which weights to keep is validation's to say.
    """
    with memory.watched():
        started = time.perf_counter()
        trainer = Trainer(split, training_settings(settings), settings["seed"], device=settings["device"])
        total = time.perf_counter() - started
    epochs, training, curve = trainer.epochs(), total, []
    while True:
        with memory.watched():
            started = time.perf_counter()
            _, report = next(epochs, (0, None))
            total += time.perf_counter() - started
        if report is None:
            break
        training += report["train_seconds"]
        point = {"train_seconds": training, "total_seconds": total}
        point["validation_ndcg_at_10"] = report["validation_ndcg_at_10"]
        curve.append(point | {"ndcg_at_10": rank(trainer.backbone, split)["ndcg_at_10"]})
    in_steps = sum(report["train_seconds"] for report in trainer.backbone.epochs)
    return trainer, {
        "sequences_per_second": len(trainer.trainable) * len(curve) / in_steps,
        "epochs": len(curve),
        "best_epoch": trainer.backbone.best_epoch,
        "train_seconds": training,
        "total_seconds": total,
        "curve": curve,
    }


def main() -> None:
    settings = read_settings()
    torch.set_num_threads(settings["threads"])
    split = load_split(settings["data"], settings["split"])
    memory = PeakMemory(settings["device"])
    trainer, measured = train(settings, split, memory)
    result = {"version": coldray.__version__} | measured | {"train_gb": memory.gigabytes}
    memory = PeakMemory(settings["device"])
    with memory.watched():
        ranked = rank(trainer.backbone, split)
    deliver(result | ranked | {"rank_gb": memory.gigabytes})


if __name__ == "__main__":
    main()
