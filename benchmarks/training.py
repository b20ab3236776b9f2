"""Training, ranking and memory of SASRec in coldray, RecTools and RecBole: the same data, the same settings.

    python benchmarks/training.py --dataset data/games                       all rows, one after another
    python benchmarks/training.py --dataset data/games --quick               2,000 users, one epoch: does it run?
    python benchmarks/training.py --dataset data/games --only coldray-512 coldray-full
    python benchmarks/training.py --dataset data/games --device cuda        the same on a GPU; its memory is measured

Each row is measured in a process of its own, the peers' in environments of their own, which are made under --envs
where they are missing. docs/benchmarks.md says what is measured and how.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from coldray import storage
from coldray.data.dataset import Sequences, Split, load_split, save_split, split_folder
from coldray.errors import UserError

SCRIPTS = Path(__file__).resolve().parent / "peers"
QUICK_USERS = 2000
QUIET = 0.1
"""cores that others may use: with every core taken, threads that wait for one another slow down many times over"""
SETTINGS = {
    "dim": 64,
    "num_blocks": 2,
    "num_heads": 1,
    "max_length": 50,
    "dropout": 0.2,
    "learning_rate": 1e-3,
    "batch_size": 128,
    "seed": 42,
    "rank": True,
}
PACKAGES = {
    "rectools": [["torch==2.13.0"], ["rectools[torch]==0.19.0", "psutil"]],
    "recbole": [
        ["torch==2.13.0"],
        ["recbole==1.2.1", "numpy<2", "pandas<2.2", "scipy<1.13", "psutil"],
    ],
}
"""what pip installs into each peer's environment, one call after another"""


@dataclass(frozen=True)
class Row:
    """A line of the table: who is measured, with what."""

    library: str
    title: str
    settings: dict[str, Any] = field(default_factory=dict)


def _rectools(title: str, loss: str, **settings: Any) -> Row:
    given = {"loss": loss, "num_negatives": 1, "epochs": 1, "steps": 0, "warm_up": 0, "rank": False}
    return Row("rectools", f"RecTools, {title}", given | settings)


def _recbole(title: str, **settings: Any) -> Row:
    return Row("recbole", f"RecBole, {title}", {"steps": 40, "warm_up": 5} | settings)


def _coldray(title: str, loss: str, num_negatives: int = 1, negatives: str = "uniform") -> Row:
    given = {
        "loss": loss,
        "num_negatives": num_negatives,
        "negatives": negatives,
        "epochs": 100,
        "patience": 5,
    }
    return Row("coldray", f"coldray, {title}", given)


REFERENCE = "rectools-sampled-32"
"""the row whose quality the others' clocks are read at"""

ROWS = {
    "rectools-bce": _rectools("BCE, 1 negative", "BCE"),
    REFERENCE: _rectools(
        "sampled softmax, 32 negatives", "sampled_softmax", num_negatives=32, epochs=11, rank=True
    ),
    "rectools-sampled-32-long": _rectools(
        "sampled softmax, 32 negatives, trained on", "sampled_softmax", num_negatives=32, epochs=30, rank=True
    ),
    "rectools-full": _rectools("full softmax", "softmax", steps=40, warm_up=5),
    "recbole-full": _recbole("full softmax, a prefix an example"),
    # 128 sequences of the others hold several times as many targets as 128 prefixes: its own default as well.
    "recbole-full-2048": _recbole(
        "the same, batch 2,048 (default)", batch_size=2048, steps=15, warm_up=2, rank=False
    ),
    "coldray-32": _coldray("sampled softmax, 32 shared negatives", "sampled_softmax", 32),
    "coldray-512": _coldray("sampled softmax, 512 shared negatives", "sampled_softmax", 512),
    "coldray-mixed": _coldray(
        "sampled softmax, 512 shared negatives, mixed", "sampled_softmax", 512, "mixed"
    ),
    "coldray-full": _coldray("full softmax", "full_softmax"),
}


def first_users(split: Split, number: int) -> Split:
    """Return `split` with the first `number` users of each part only."""

    def first(part: Sequences) -> Sequences:
        n = min(number, len(part))
        targets = None if part.targets is None else part.targets[:n]
        return Sequences(part.users[:n], part.offsets[: n + 1], part.items[: part.offsets[n]], targets)

    parts = {part: first(getattr(split, part)) for part in ("train", "validation", "test")}
    return Split(split.name, split.fingerprint, split.item_ids, split.num_warm, split.train_counts, **parts)


def check_leave_one_out(split: Split) -> None:
    """Raise UserError unless the test histories are the training sequences and one item more.

    RecBole holds out the last two items itself; only then does it train on what the others train on.
    """
    train, test = split.train, split.test
    same = train.users.equals(test.users) and np.array_equal(train.lengths + 1, test.lengths)
    if not same:
        raise UserError(
            f"split {split.name}: is not leave one out; make one with coldray data split --protocol leave_one_out"
        )


def export(split: Split, folder: Path) -> None:
    """Write the split to `folder`: for coldray as it is, for the others as columns of numbers.

    Not as Parquet: the peers need a numpy that current pyarrow does not load with.
    """
    save_split(split, split_folder(folder, split.name), recipe={})
    for name in ("train", "test"):
        part: Sequences = getattr(split, name)
        users = np.repeat(np.arange(len(part)), part.lengths)
        positions = np.arange(len(part.items)) - np.repeat(part.offsets[:-1], part.lengths)
        np.savez(folder / f"{name}.npz", user=users, item=part.items, position=positions)
    np.savez(folder / "targets.npz", user=np.arange(len(split.test)), target=np.asarray(split.test.targets))


def interpreter(library: str, envs: Path) -> str:
    """Return the Python of a library's environment, which is made if it is missing.

    Raises UserError if it cannot be; then nothing of it stays.
    """
    if library == "coldray":
        return sys.executable
    home = envs / library
    python = home / "bin" / "python"
    if python.exists():
        return str(python)
    print(f"making {home}", file=sys.stderr, flush=True)
    try:
        venv.create(home, with_pip=True)
        for packages in PACKAGES[library]:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, subprocess.CalledProcessError):
            raise UserError(f"{home}: {library} cannot be installed (see above); install it there") from error
        raise
    return str(python)


def measure(name: str, python: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the script of a row printed. Raises UserError with the end of its messages if it failed."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if settings["device"] == "cpu" else {})
    environment |= {f"{library}_NUM_THREADS": str(settings["threads"]) for library in ("OMP", "MKL")}
    busy, started = _busy_seconds(), time.perf_counter()
    done = subprocess.run(
        [python, SCRIPTS / f"{ROWS[name].library}_run.py", json.dumps(settings)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{name}: ended with code {done.returncode}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    others = (_busy_seconds() - busy) / (time.perf_counter() - started)
    return result | {"other_processes_cores": max(0.0, others)}


def _busy_seconds() -> float:
    """Return the CPU seconds that this machine has spent on anything but this process and its ended children."""
    times = psutil.cpu_times()
    own = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    steal = getattr(times, "steal", 0.0)  # what the host gave to other machines; Linux only
    busy: float = times.user + times.system + steal
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in own)


def row_settings(args: argparse.Namespace, name: str, folder: Path) -> dict[str, Any]:
    """Return everything that the script of a row is told."""
    settings = SETTINGS | ROWS[name].settings
    settings |= {
        "data": str(folder),
        "split": args.split,
        "threads": args.threads,
        "device": args.device,
    }
    if args.quick:
        settings["epochs"] = 1
        if settings.get("steps"):
            settings |= {"steps": 4, "warm_up": 1}
    return settings


def first_reaching(result: dict[str, Any], value: float) -> dict[str, Any] | None:
    """Return the point of a training's curve at which test NDCG@10 was first `value` or more."""
    return next((point for point in result.get("curve", []) if point["ndcg_at_10"] >= value), None)


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _training(result: dict[str, Any], sequences: int) -> str:
    """Return the seconds and epochs; where only steps were timed, what one epoch would take at their speed."""
    if result["train_seconds"] is None:
        return f"~{sequences / result['sequences_per_second']:,.0f} (1)"
    return f"{result['train_seconds']:,.0f} ({result['epochs']})"


def table(results: dict[str, dict[str, Any]], sequences: int) -> list[str]:
    """Return the lines of the table, as Markdown."""
    head = ["method", "sequences/s", "seconds to train (epochs)", "full ranking of all test users (s)"]
    head += ["peak memory training (GB)", "peak memory ranking (GB)", "test NDCG@10", "Recall@10"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for name, result in results.items():
        row = [ROWS[name].title, _number(result["sequences_per_second"]), _training(result, sequences)]
        row += [_number(result.get("rank_seconds"), 1), _number(result["train_gb"], 2)]
        row += [_number(result.get("rank_gb"), 2)]
        rows.append(row + [_number(result.get(metric), 4) for metric in ("ndcg_at_10", "recall_at_10")])
    widths = [max(len(row[i]) for row in rows if row[i][0] != "-") for i in range(len(head))]
    return [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]


def remarks(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return what the table has no column for."""
    lines = []
    reference = results.get(REFERENCE, {}).get("ndcg_at_10")
    for name, result in results.items():
        title = ROWS[name].title
        if result["other_processes_cores"] > QUIET:
            cores = result["other_processes_cores"]
            lines.append(f"{title}: NOT VALID, other processes kept {cores:.2f} cores busy; measure again")
        if "prefixes_per_user" in result:
            per_user, speed = result["prefixes_per_user"], result["prefixes_per_second"]
            lines.append(f"{title}: {speed:,.0f} prefixes/s, {per_user:.2f} prefixes a sequence")
        if "curve" not in result:
            continue
        text = f"{title}: {result['total_seconds']:,.1f} s with validation; best epoch {result['best_epoch']}"
        point = None if reference is None else first_reaching(result, reference)
        if point is not None:
            seconds, total = point["train_seconds"], point["total_seconds"]
            epoch = result["curve"].index(point) + 1
            text += (
                f"; test NDCG@10 of {ROWS[REFERENCE].title} ({reference:.4f}) reached after {seconds:,.1f} s"
            )
            text += f" of training, {total:,.1f} s with validation (epoch {epoch})"
        elif reference is not None:
            text += f"; test NDCG@10 of {ROWS[REFERENCE].title} ({reference:.4f}) not reached"
        lines.append(text)
    return lines


def machine(threads: int, device: str) -> dict[str, Any]:
    """Return what the figures depend on besides the programs."""
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        **gpu,
        "threads": threads,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="folder made by coldray data prepare")
    parser.add_argument("--split", default="leave_one_out", help="name of a leave-one-out split")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_USERS:,} users, one epoch, few steps")
    parser.add_argument(
        "--envs", type=Path, default=Path(".venv-peers"), help="folder of the peers' environments"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="RecBole is for the CPU alone"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured, row by row")
    return parser.parse_args()


def run(args: argparse.Namespace) -> int:
    """Measure row after row; return how many failed."""
    split = load_split(args.dataset, args.split)
    check_leave_one_out(split)
    split = first_users(split, QUICK_USERS) if args.quick else split
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here")
    names = args.only or [n for n in ROWS if args.device == "cpu" or ROWS[n].library != "recbole"]
    pythons = {
        library: interpreter(library, args.envs.absolute()) for library in {ROWS[n].library for n in names}
    }
    about = machine(args.threads, args.device) | {
        "split": args.split,
        "fingerprint": split.fingerprint,
        "quick": args.quick,
    }
    about |= {"test_users": len(split.test), "sequences": int((split.train.lengths > 1).sum())}
    results: dict[str, dict[str, Any]] = {}
    failed = 0
    with tempfile.TemporaryDirectory(prefix="coldray-benchmark-") as temporary:
        export(split, Path(temporary))
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            settings = row_settings(args, name, Path(temporary))
            try:
                results[name] = measure(name, pythons[ROWS[name].library], settings, Path(temporary))
            except UserError as error:  # the other rows are worth having
                print(error, file=sys.stderr, flush=True)
                failed += 1
                continue
            if args.json is not None:
                storage.write_json(args.json, {"machine": about, "rows": results})
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print("\n".join(["", *table(results, about["sequences"]), "", *remarks(results)]))
    return failed


def main() -> None:
    try:
        failed = run(arguments())
    except UserError as error:
        sys.exit(f"training.py: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
