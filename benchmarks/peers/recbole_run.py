"""SASRec of RecBole: some training steps, the ranking of all test users, the result as a line of JSON.

    RECBOLE_PYTHON benchmarks/peers/recbole_run.py SETTINGS

RecBole trains on every prefix of a sequence as an example of its own. Its loop is timed over a number of steps; a
user costs as many prefixes as users have on average. What the settings do not name stays as RecBole has it, except
the width of the feed-forward layers, which is d as in the paper and in the others. Started by benchmarks/training.py.
"""

# mypy: disable-error-code="import-not-found,import-untyped"
# (RecBole is in an environment of its own.)

import os
import tempfile
import time
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import pandas as pd
import recbole
import torch
from measure import PeakMemory, deliver, read_columns, read_settings
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

NAME = "shop"
FIELDS = {"user": "user_id:token", "item": "item_id:token", "position": "timestamp:float"}


def write_interactions(settings: dict[str, Any], folder: Path) -> None:
    """Write all interactions, targets included, as RecBole's atomic file: it holds the last two out itself."""
    history = pd.DataFrame(read_columns(settings, "test"))
    target = pd.DataFrame(read_columns(settings, "targets")).rename(columns={"target": "item"})
    target["position"] = history["position"].max() + 1
    whole = pd.concat([history, target]).rename(columns=FIELDS)
    (folder / NAME).mkdir()
    whole[list(FIELDS.values())].to_csv(folder / NAME / f"{NAME}.inter", sep="\t", index=False)


def make_config(settings: dict[str, Any], folder: Path) -> Config:
    """Return RecBole's settings."""
    given = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": settings["max_length"],
        "n_layers": settings["num_blocks"],
        "n_heads": settings["num_heads"],
        "hidden_size": settings["dim"],
        "inner_size": settings["dim"],
        "hidden_dropout_prob": settings["dropout"],
        "attn_dropout_prob": settings["dropout"],
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "learning_rate": settings["learning_rate"],
        "train_batch_size": settings["batch_size"],
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "order": "TO",
            "group_by": "user",
            "mode": {"valid": "full", "test": "full"},
        },
        "metrics": ["Recall", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "seed": settings["seed"],
        "use_gpu": False,
        "show_progress": False,
    }
    return Config(model="SASRec", dataset=NAME, config_dict=given)


def train(trainer: Trainer, batches: Any, settings: dict[str, Any]) -> float:
    """Return the prefixes a second of RecBole's own training loop, batches made as it makes them."""
    endless = chain.from_iterable(repeat(batches))  # epoch after epoch
    trainer._train_epoch(islice(endless, settings["warm_up"]), 0)
    taken: list[int] = []

    def counted() -> Any:
        for batch in islice(endless, settings["steps"]):
            taken.append(len(batch))
            yield batch

    started = time.perf_counter()
    trainer._train_epoch(counted(), 0)
    return sum(taken) / (time.perf_counter() - started)


def run(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    write_interactions(settings, folder)
    config = make_config(settings, folder)
    torch.set_num_threads(settings["threads"])
    init_seed(config["seed"], config["reproducibility"])
    memory = PeakMemory()
    with memory.watched():
        train_data, _, test_data = data_preparation(config, create_dataset(config))
        model = SASRec(config, train_data._dataset)
        trainer = Trainer(config, model)
        prefixes_per_second = train(trainer, train_data, settings)
    users = train_data._dataset.inter_feat["user_id"]
    prefixes_per_user = len(users) / len(users.unique())
    result = {
        "version": recbole.__version__,
        "sequences_per_second": prefixes_per_second / prefixes_per_user,
        "prefixes_per_second": prefixes_per_second,
        "prefixes_per_user": prefixes_per_user,
        "epochs": None,
        "train_seconds": None,
        "train_gb": memory.gigabytes,
    }
    if not settings["rank"]:
        return result
    memory = PeakMemory()
    with memory.watched():
        started = time.perf_counter()
        trainer.evaluate(test_data, load_best_model=False)
        seconds = time.perf_counter() - started
    return result | {"rank_seconds": seconds, "rank_gb": memory.gigabytes}


def main() -> None:
    settings = read_settings()
    with tempfile.TemporaryDirectory(prefix="recbole-") as folder:
        os.chdir(folder)  # RecBole leaves TensorBoard files where it runs
        result = run(settings, Path(folder))
        os.chdir("/")
    deliver(result)


if __name__ == "__main__":
    main()
