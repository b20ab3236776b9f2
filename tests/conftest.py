"""What the tests share: one Ray for the whole run, and how hypothesis searches."""

import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from coldray.settings import digest

# Before Ray, MLflow and transformers are imported: nothing is reported and nothing is fetched from a hub.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_agent_register_timeout_ms="120000",  # a busy machine is slow to start
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",  # Ray warns once a worker unless this is set
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
)

# A machine that is busy must not fail a property, and CI must fail the same way twice.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Start one Ray of four logical CPUs, on however few real ones, for every test that asks for it."""
    import ray  # only for the tests that need it

    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=200 * 1024**2,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start one MLflow server for every test that asks for it; each uses an experiment of its own."""
    from coldray.sweep.server import embedded_server

    with embedded_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture(scope="session")
def make_sweep() -> Callable[..., "SyntheticSweep"]:
    """Return the class of made-up sweeps, whose results have the form of real ones."""
    return SyntheticSweep


class SyntheticSweep:
    """The baseline, transfer at each K and the history average, over seeds, with made-up ranks.

    Transfer moves the targets of cold users up by `lift` (down if negative), less at a larger K.
    """

    def __init__(self, name="made-up", seeds=(42, 43, 44), ks=(10, 25), users=300, lift=0.5, cold_share=0.3):
        import numpy as np

        self.random = np.random.default_rng(7)
        self.users, self.lift = users, lift
        self.cold = np.arange(users) < users * cold_share
        self.targets = np.where(self.cold, 101 + np.arange(users) % 40, 1 + np.arange(users) % 100).astype(
            np.int32
        )
        self.train_counts = np.where(self.cold, 0, 1 + (np.arange(users) % 100) ** 2 // 50).astype(np.int64)
        self.difficulty = self.random.exponential(12, users)
        dataset = {"path": "data/made-up", "split": "temporal", "fingerprint": "ab" * 8}
        dataset |= {"embedding": "minilm", "embedding_fingerprint": "cd" * 8}
        cells = [self.cell(method, seed, k) for method, k in self.variants(ks) for seed in seeds]
        sweep_id = digest([name, cells])
        self.sweep = {
            "format": 1,
            "name": name,
            "sweep_id": sweep_id,
            "dataset": dataset,
            "baseline": "delta",
        }
        self.sweep["cells"] = cells

    @staticmethod
    def variants(ks):
        return [("delta", None), *(("delta+knn+gate", k) for k in ks), ("history-average", None)]

    @staticmethod
    def cell(method, seed, k):
        trained = method.startswith("delta")
        cell = {"method": method, "seed": seed, "k": k, "model": {"dim": 32, "blocks": 2}}
        cell["training"] = {"loss": "sampled_softmax", "learning_rate": 0.001} if trained else None
        cell["transfer"] = {"temperature": 0.07, "gate": {"tau": 0.25, "beta": 20.0}} if k else None
        return {"cell_id": digest(cell), **cell}

    def evaluation(self, cell):
        """Return made-up ranks of a cell: the same for the same cell."""
        import numpy as np
        import pyarrow as pa

        from coldray.evaluation.ranking import Evaluation

        random = np.random.default_rng(int(cell["cell_id"][:8], 16))
        gain = self.lift * 10 / cell["k"] if cell["k"] else 0.0
        noise = 0 if cell["method"] == "history-average" else random.normal(0, 0.3, self.users)
        level = (
            self.difficulty
            * np.exp(noise - gain * self.cold)
            * (1.6 if cell["method"] == "history-average" else 1)
        )
        ranks = (1 + level).astype(np.int32)
        warm = np.where(self.cold, 0, ranks).astype(np.int32)
        users = pa.array([f"user-{i}" for i in range(self.users)])
        return Evaluation(users, self.targets, self.cold, ranks, ranks + 1, warm, np.where(warm, warm + 1, 0))

    def write(self, cell, run_id, folder, **changes):
        """Write the artifacts of a run to `folder`; `changes` go over task.json. Return its metrics."""
        import csv
        import gzip

        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        from coldray.evaluation.metrics import settings_table

        evaluation = self.evaluation(cell)
        task = cell | {"dataset": self.sweep["dataset"], "sweep_id": self.sweep["sweep_id"]}
        task |= {"run_id": run_id, "backbone_id": None} | changes
        (folder / "task.json").write_text(json.dumps(task))
        rows = settings_table(evaluation)
        with gzip.open(folder / "cold-start-evaluation.csv.gz", "wt", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        pq.write_table(evaluation.to_table(self.all_counts()), folder / "ranks.parquet")
        metrics = {n.lower().replace("@", "_at_"): v for n, v in rows[0].items() if "@" in n}
        if cell["transfer"]:
            gates = np.random.default_rng(cell["k"]).beta(4, 2, 40).astype(np.float32)
            columns = {"item_id": [f"item-{i}" for i in range(40)], "gate": gates, "max_similarity": gates}
            pq.write_table(pa.table(columns), folder / "transfer.parquet")
            metrics["mean_gate"] = float(gates.mean())
        return metrics | {"seconds": 1.5}

    def all_counts(self):
        """Return the training interactions of every item, the padding included."""
        import numpy as np

        counts = np.zeros(int(self.targets.max()) + 1, np.int64)
        counts[self.targets] = self.train_counts
        return counts

    def log(self, uri, experiment, folder):
        """Log the whole sweep; return the id of the parent run and the runs' ids by cell id."""
        from coldray.sweep.tracking import Tracker

        tracker = Tracker(uri, experiment)
        parent = tracker.start_sweep(self.sweep)
        runs = {cell["cell_id"]: self.log_cell(tracker, parent, cell, folder) for cell in self.sweep["cells"]}
        tracker.finish_sweep(parent)
        return parent, runs

    def log_cell(self, tracker, parent, cell, folder, **changes):
        """Log one cell; return its run's id."""
        run_id = tracker.start_cell(parent, cell, {"dim": 32, "dataset": self.sweep["dataset"]["path"]})
        target = folder / run_id
        target.mkdir(parents=True)
        metrics = self.write(cell, run_id, target, **changes)
        if cell["training"]:
            tracker.log_epochs(
                run_id,
                [{"epoch": e, "train_loss": 5 - e, "validation_ndcg_at_10": 0.01 * e} for e in range(3)],
            )
        tracker.finish_cell(run_id, metrics, target)
        return run_id
