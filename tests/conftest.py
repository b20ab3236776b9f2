"""What the tests share: one Ray for the whole run, and how hypothesis searches."""

import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from coldray.settings import digest

pytest_plugins = [
    "tests.plugins.collector",
    "tests.plugins.graph",
    "tests.plugins.llm",
    "tests.plugins.nodes",
    "tests.plugins.papers",
]

# Before Ray, MLflow and transformers are imported: nothing is reported and nothing is fetched from a hub.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_agent_register_timeout_ms="120000",  # a busy machine is slow to start
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",  # Ray warns once a worker unless this is set
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",  # what tests compute is small, and threads that wait for each other slow a busy machine
)

# A machine that is busy must not fail a property, and CI must fail the same way twice.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a real vLLM."""
    for item in items:
        if "smollm" in getattr(item, "fixturenames", ()):
            item.add_marker("vllm")


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

    def write(self, cell, run_id, folder, changes=None):
        """Write the artifacts of a run to `folder`; `changes` go over task.json. Return its metrics."""
        import csv
        import gzip

        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        from coldray.evaluation.metrics import settings_table

        evaluation = self.evaluation(cell)
        task = cell | {"dataset": self.sweep["dataset"], "sweep_id": self.sweep["sweep_id"]}
        task |= {"run_id": run_id, "backbone_id": None} | (changes or {})
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
            columns |= {"item": np.arange(40, dtype=np.int32)}
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

    def log_cell(self, tracker, parent, cell, folder):
        """Log one cell; return its run's id."""
        run_id = tracker.start_cell(parent, cell, {"dim": 32, "dataset": self.sweep["dataset"]["path"]})
        target = folder / run_id
        target.mkdir(parents=True)
        metrics = self.write(cell, run_id, target)
        if cell["training"]:
            tracker.log_epochs(
                run_id,
                [{"epoch": e, "train_loss": 5 - e, "validation_ndcg_at_10": 0.01 * e} for e in range(3)],
            )
        tracker.finish_cell(run_id, metrics, target)
        return run_id


@pytest.fixture(scope="session")
def tiny_split():
    """Return a split of 200 users who each stay within one of four groups of twelve items, the last two of them cold."""
    import numpy as np
    import pyarrow as pa

    from coldray.data.dataset import Sequences, Split

    random = np.random.default_rng(3)
    groups, warm, cold = 4, 10, 2
    num_warm = groups * warm
    warm_of = np.arange(1, num_warm + 1).reshape(groups, warm)
    cold_of = num_warm + 1 + np.arange(groups * cold).reshape(groups, cold)
    group = np.arange(200) % groups
    length = random.integers(2, 8, 200)
    drawn = [random.permutation(warm_of[g])[: n + 2] for g, n in zip(group, length, strict=True)]
    ends = [
        random.choice(cold_of[g]) if i % 5 == 0 else d[-1]
        for i, (g, d) in enumerate(zip(group, drawn, strict=True))
    ]
    seen_cold = [[cold_of[g][0]] if i % 7 == 1 else [] for i, g in enumerate(group)]
    histories = [[*c, *d[:-1]] for c, d in zip(seen_cold, drawn, strict=True)]
    users = pa.array([f"u{i}" for i in range(200)])

    def sequences(lists, targets=None):
        offsets = np.concatenate([[0], np.cumsum([len(items) for items in lists])])
        items = np.concatenate([np.asarray(items) for items in lists]).astype(np.int32)
        return Sequences(
            users, offsets.astype(np.int64), items, None if targets is None else np.array(targets, np.int32)
        )

    train = sequences([d[:-2] for d in drawn])
    counts = np.bincount(train.items, minlength=num_warm + groups * cold + 1)
    ids = pa.array([f"i{i:02d}" for i in range(1, num_warm + groups * cold + 1)])
    validation = sequences([d[:-2] for d in drawn], [d[-2] for d in drawn])
    return Split("tiny", "ab" * 16, ids, num_warm, counts, train, validation, sequences(histories, ends))


@pytest.fixture(scope="session")
def tiny_content():
    """Return item vectors [49, 8] in which the groups of `tiny_split` are apart; row 0 is the padding's."""
    import numpy as np

    random = np.random.default_rng(4)
    groups = np.concatenate([np.repeat(np.arange(4), 10), np.repeat(np.arange(4), 2)])
    vectors = np.zeros((49, 8), np.float32)
    vectors[1:] = random.normal(size=(4, 8))[groups] + 0.3 * random.normal(size=(48, 8))
    vectors[1:] /= np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    return vectors


@pytest.fixture(scope="session")
def tiny_dataset(tiny_split, tiny_content, tmp_path_factory):
    """Return a data set folder with the split `tiny` and the embedding `given`."""
    import pyarrow as pa

    from coldray import storage
    from coldray.data.dataset import save_split
    from coldray.encode.embeddings import embedding_folder, publish, write_part

    folder = str(tmp_path_factory.mktemp("tiny"))
    storage.write_json(storage.join(folder, "manifest.json"), {"format": 1, "fingerprint": "cd" * 16})
    storage.write_table(storage.join(folder, "items.parquet"), pa.table({"item_id": tiny_split.item_ids}))
    save_split(tiny_split, storage.join(folder, "splits", "tiny"), {"protocol": "made by hand"})
    home = embedding_folder(folder, "given")
    publish(home, [write_part(home, "0" * 16, tiny_split.item_ids, tiny_content[1:])], {"source": "given"})
    return folder


@pytest.fixture
def with_modality(tiny_dataset, tiny_split, tmp_path):
    """Return a copy of `tiny_dataset` with a further embedding `image` [48, 5], in which the groups are a little apart."""
    import shutil

    import numpy as np

    from coldray.encode.embeddings import embedding_folder, publish, write_part

    folder = str(shutil.copytree(tiny_dataset, tmp_path / "with-modality"))
    random = np.random.default_rng(8)
    groups = np.concatenate([np.repeat(np.arange(4), 10), np.repeat(np.arange(4), 2)])
    vectors = (random.normal(size=(4, 5))[groups] + 0.6 * random.normal(size=(48, 5))).astype(np.float32)
    home = embedding_folder(folder, "image")
    publish(home, [write_part(home, "3" * 16, tiny_split.item_ids, vectors)], {"source": "image"})
    return folder


@pytest.fixture(scope="session")
def warm_dataset(tiny_content, tmp_path_factory):
    """Return a data set folder with the split `warm`, which has no cold item, and the embedding `given`."""
    import pyarrow as pa

    from coldray import storage
    from coldray.data.dataset import save_split, split_folder
    from coldray.data.split import SplitSettings, make_split
    from coldray.encode.embeddings import embedding_folder, publish, write_part

    folder = str(tmp_path_factory.mktemp("warm"))
    users, items = [f"u{i // 5:02d}" for i in range(60)], [f"i{i * 3 % 11}" for i in range(60)]
    table = pa.table({"user_id": users, "item_id": items, "position": [i % 5 for i in range(60)]})
    split = make_split(table, SplitSettings(protocol="leave_one_out"))
    assert split.num_cold == 0
    storage.write_json(storage.join(folder, "manifest.json"), {"format": 1, "fingerprint": "ce" * 16})
    save_split(split, split_folder(folder, "warm"), {})
    home = embedding_folder(folder, "given")
    part = write_part(home, "0" * 16, split.item_ids, tiny_content[1 : split.num_items + 1])
    publish(home, [part], {"source": "given"})
    return folder


@pytest.fixture(scope="session")
def tiny_settings(tiny_dataset):
    """Return a function that makes settings of a sweep over `tiny_dataset`, a few epochs of a very small model."""
    from coldray.sweep.config import SweepSettings

    def make(**changes):
        training = {
            "encoder": {"dim": 8, "dropout": 0.1, "max_length": 8},
            "num_negatives": 16,
            "max_epochs": 4,
        }
        training |= {"learning_rate": 0.01} | changes.pop("training", {})
        base = {
            "name": "tiny",
            "dataset": tiny_dataset,
            "split": "tiny",
            "embedding": "given",
            "k": (3, 5),
            "seeds": (42, 43),
        }
        return SweepSettings.model_validate(base | {"training": training} | changes)

    return make


@pytest.fixture(scope="module")
def browser():
    """Start a headless Chromium of the system's."""
    import shutil

    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium; install the package chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()
