"""One sweep of a few trainings with so many Ray trials at once; prints what it took as JSON. Run by scaling.py."""

import argparse
import json
from typing import Any

from mlflow import MlflowClient

from coldray.data.dataset import load_split
from coldray.data.prepare import start_ray
from coldray.models.sasrec import SASRecSettings
from coldray.sweep.config import SweepSettings
from coldray.sweep.run import run_sweep
from coldray.sweep.server import tracking_server
from coldray.training import TrainingSettings


def settings_of(args: argparse.Namespace) -> SweepSettings:
    training = TrainingSettings(
        encoder=SASRecSettings(dim=64, max_length=50), max_epochs=args.epochs, patience=args.epochs
    )
    return SweepSettings(
        name=f"workers-{args.workers}",
        dataset=args.dataset,
        embedding=None,
        methods=("sasrec",),
        baseline="sasrec",
        k=(),
        seeds=tuple(range(args.trainings)),
        training=training,
    )


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Run the sweep; return the seconds from the first training's start to the last one's end, and what was trained."""
    start_ray(num_cpus=args.workers)  # a trial asks for one, so this is how many run at a time
    with tracking_server(None, f"{args.runs}/mlflow") as uri:
        outcome = run_sweep(settings_of(args), args.runs, uri, say=lambda line: None)
        client = MlflowClient(uri)
        experiment = client.get_run(outcome.run_id).info.experiment_id
        found = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{outcome.run_id}'")
    split = load_split(args.dataset, "leave_one_out")
    trained = int((split.train.lengths > 1).sum()) * args.epochs
    rates = [run.data.metrics["sequences_per_second"] for run in found]
    return {
        "failed": len(outcome.failed),
        "span": (max(run.info.end_time for run in found) - min(run.info.start_time for run in found)) / 1000,
        "sequences": trained * len(found),
        "rate": sum(rates) / len(rates),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--runs", required=True)
    for name in ("workers", "trainings", "epochs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
