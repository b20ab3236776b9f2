"""How cost grows: preparation with interactions, a sweep with trials at once, a graph's build with engines at once.

    python benchmarks/scaling.py prepare --interactions 100000 1000000 10000000 100000000
    python benchmarks/scaling.py sweep --workers 1 2 4
    python benchmarks/scaling.py graph --engines 1 2 --items 96          (after: coldray llm fetch smollm2-135m)
    python benchmarks/scaling.py show

Each adds what it measured to FOLDER/results.jsonl and prints a table of all that is there, the newest of each row; `show`
only prints them. A program that takes longer than --limit or more than --memory of the machine is ended, and the table says so.
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
import scaling_tree
from scaling_data import write_catalogue, write_interactions
from scaling_tables import QUIET, Result, show_graph, show_prepare, show_sweep

HERE = Path(__file__).resolve().parent
COLDRAY = [sys.executable, "-m", "coldray"]
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # as `coldray sweep run` sets them
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Bench:
    """The folder of the measurements, and the bounds of each."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder = args.folder.resolve()
        self.limit = args.limit
        self.memory = args.memory * psutil.virtual_memory().total

    def measure(self, key: Result, command: Sequence[str]) -> tuple[Result, str]:
        """Run a program; return its row, not yet kept, and its output. What it says otherwise is in FOLDER/logs."""
        name = "-".join(str(value) for value in key.values())
        print(f"{name}: {' '.join(command)}", file=sys.stderr, flush=True)
        log = self.folder / "logs" / f"{name}.log"
        # A folder of its own keeps Ray's files, among them the address that others on the machine look for, apart.
        with tempfile.TemporaryDirectory(prefix="scaling-", ignore_cleanup_errors=True) as ray:
            env = os.environ | ENVIRONMENT | {"RAY_TMPDIR": ray}
            cost, output = scaling_tree.run(list(command), log, self.limit, self.memory, env)
        if cost.ended == "failed":
            print(f"{name}: failed, see {log}", file=sys.stderr)
        return {"key": key, "cost": asdict(cost), **machine()}, output

    def keep(self, row: Result) -> None:
        """Add a row to the results."""
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def results(self, kind: str) -> list[Result]:
        """Return the newest row of each key of a kind."""
        file = self.folder / "results.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        newest = {json.dumps(row["key"]): row for row in rows if row["key"]["kind"] == kind}
        return list(newest.values())


def machine() -> Result:
    """Return where and when this is."""
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count()
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": date, "cpu": names[0] if names else "?", "physical": physical, "logical": logical}


def prepare(bench: Bench, args: argparse.Namespace) -> None:
    """Measure `coldray data prepare` and `coldray data split` at each size."""
    for count in sorted(args.interactions):
        raw, out = bench.folder / "raw" / str(count), bench.folder / "prepared" / str(count)
        write_interactions(raw, count)
        shutil.rmtree(out, ignore_errors=True)
        prepared = [*COLDRAY, "data", "prepare", str(raw), "--format", "table", "--out", str(out)]
        for step, command in (("prepare", prepared), ("split", [*COLDRAY, "data", "split", str(out)])):
            row, _ = bench.measure({"kind": "prepare", "step": step, "interactions": count}, command)
            bench.keep(row)
            if row["cost"]["ended"] != "done":
                break
        shutil.rmtree(out, ignore_errors=True)


def sweep(bench: Bench, args: argparse.Namespace) -> None:
    """Measure a sweep of `--trainings` trainings with each number of workers."""
    raw, data = bench.folder / "raw" / str(args.interactions), bench.folder / "sweep-data"
    write_interactions(raw, args.interactions)
    shutil.rmtree(data, ignore_errors=True)
    prepared = ["prepare", str(raw), "--format", "table", "--out", str(data)]
    for step in (prepared, ["split", str(data), "--protocol", "leave_one_out"]):
        row, _ = bench.measure({"kind": "data", "step": step[0]}, [*COLDRAY, "data", *step])
        if row["cost"]["ended"] != "done":
            sys.exit("scaling.py: there is nothing to train on")
    size = {"interactions": args.interactions, "trainings": args.trainings, "epochs": args.epochs}
    for workers in sorted(args.workers):
        runs = bench.folder / "sweep-runs"
        shutil.rmtree(runs, ignore_errors=True)
        command = [
            sys.executable,
            str(HERE / "scaling_sweep.py"),
            "--dataset",
            str(data),
            "--runs",
            str(runs),
        ]
        command += [f"--workers={workers}", f"--trainings={args.trainings}", f"--epochs={args.epochs}"]
        row, output = bench.measure({"kind": "sweep", **size, "workers": workers}, command)
        bench.keep(row | last_json(row, output))


def graph(bench: Bench, args: argparse.Namespace) -> None:
    """Measure a build with each number of engines, from nothing each time."""
    if not args.model.is_dir():
        sys.exit(
            f"scaling.py: {args.model}: is not there; run: coldray llm fetch smollm2-135m --out {args.model}"
        )
    items, out = bench.folder / "catalogue.parquet", bench.folder / "graph"
    write_catalogue(items, args.items)
    for engines in sorted(args.engines):
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, str(HERE / "scaling_graph.py"), "--items", str(items), "--graph", str(out)]
        command += ["--config", str(args.config), "--model", str(args.model)]
        command += [f"--engines={engines}", f"--cores={args.cores}"]
        key = {"kind": "graph", "items": args.items, "cores": args.cores, "engines": engines}
        row, output = bench.measure(key, command)
        bench.keep(row | last_json(row, output))


def last_json(row: Result, output: str) -> Result:
    """Return what a program printed last, nothing where it did not come to its end."""
    if row["cost"]["ended"] != "done":
        return {}
    found: Result = json.loads(output.strip().splitlines()[-1])
    return found


KINDS = {"prepare": (prepare, show_prepare), "sweep": (sweep, show_sweep), "graph": (graph, show_graph)}


def show(bench: Bench, kinds: Sequence[str]) -> None:
    """Print the tables, and the machines that they are of."""
    for kind in kinds:
        rows = bench.results(kind)
        if not rows:
            continue
        print("\n".join(KINDS[kind][1](rows)))
        where = {(r["cpu"], r["physical"], r["logical"]): r["date"] for r in rows}
        for (cpu, physical, logical), date in where.items():
            print(
                f"\n{cpu}, {physical} physical cores ({logical} logical), {date}. Others' cores above {QUIET}: DISTURBED."
            )
        if kind == "sweep" and any(r["key"]["workers"] > r["physical"] for r in rows):
            print(
                "More trials at once than physical cores share these: they cannot be faster than as many trials as cores."
            )
        print()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/scaling"), help="results, logs, data while it is used"
    )
    parser.add_argument("--limit", type=float, default=7200, help="seconds of one program")
    parser.add_argument(
        "--memory", type=float, default=0.75, help="share of the machine's that one program may hold"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("prepare", help=prepare.__doc__)
    made.add_argument("--interactions", type=int, nargs="+", default=[100_000, 1_000_000])
    swept = commands.add_parser("sweep", help=sweep.__doc__)
    swept.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2, 4], help="Ray trials at once, a CPU thread each"
    )
    swept.add_argument("--interactions", type=int, default=1_000_000)
    swept.add_argument("--trainings", type=int, default=8)
    swept.add_argument("--epochs", type=int, default=5)
    built = commands.add_parser("graph", help=graph.__doc__)
    built.add_argument("--engines", type=int, nargs="+", default=[1, 2], help="language models at work")
    built.add_argument("--items", type=int, default=96)
    built.add_argument("--cores", type=int, default=1, help="of each engine")
    built.add_argument("--config", type=Path, default=HERE.parent / "graph_configs" / "quickstart.yaml")
    built.add_argument("--model", type=Path, default=HERE.parent / "data" / "models" / "smollm2-135m")
    commands.add_parser("show", help="Print the tables of what was measured.")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it has started ends with it
    bench = Bench(args)
    bench.folder.mkdir(parents=True, exist_ok=True)
    if args.command in KINDS:
        KINDS[args.command][0](bench, args)
    show(bench, list(KINDS) if args.command == "show" else [args.command])


if __name__ == "__main__":
    main()
