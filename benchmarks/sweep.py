"""What a sweep cost against its trainings alone: how much of a grid is free once its backbones are trained.

    python benchmarks/sweep.py                       the newest sweep under runs/
    python benchmarks/sweep.py --runs FOLDER NAME    another
    python benchmarks/sweep.py --tracking-uri http://HOST:PORT NAME

Reads the seconds that each cell took back from MLflow. A cell trained if its run has a training loss; the others of
the same backbone took the trained one. Only cells that pass the validation of the report count.
"""

import argparse
import sys
from pathlib import Path

from coldray.errors import UserError
from coldray.sweep.server import DATABASE, tracking_server
from coldray.sweep.validate import SweepRecord, read_sweep, validate


def lines(record: SweepRecord) -> list[str]:
    """Return the table, as Markdown. Raises UserError if a cell may not count or nothing was trained."""
    results, left_out = validate(record)
    if left_out:
        raise UserError(
            f"sweep {record.spec.name}: {len(left_out)} cells are not whole; see coldray sweep validate"
        )
    trained = {run.run_id for run in record.runs if "train_loss" in run.metrics}
    training = sum(result.seconds for result in results if result.run_id in trained)
    rest = sum(result.seconds for result in results if result.run_id not in trained)
    trainings = sum(result.run_id in trained for result in results)
    needing = sum(result.cell.training is not None for result in results)
    without = sum(result.seconds for result in results if result.cell.training is None)
    if not trainings:
        raise UserError(
            f"sweep {record.spec.name}: none of its cells trained; delete its runs and run it anew"
        )
    rows = [
        ("cells", f"{len(results)}"),
        ("trainings", f"{trainings}"),
        ("seconds of the cells that trained", f"{training:,.1f}"),
        ("seconds of the others", f"{rest:,.1f}"),
        ("whole sweep / its trainings", f"{(training + rest) / training:.3f}"),
        (
            "seconds if each cell trained its own, estimated",
            f"{without + training / trainings * needing:,.1f}",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    table = [f"| {name:<{width}} | {value:>12} |" for name, value in rows]
    return [f"| {record.spec.name:<{width}} | {'':>12} |", f"| {'-' * width} | {'-' * 11}: |", *table]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", nargs="?", help="name or id; the newest if not given")
    parser.add_argument("--runs", default="runs", help="folder of the sweeps; used without --tracking-uri")
    parser.add_argument("--tracking-uri", help="MLflow server")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    folder = Path(args.runs) / "mlflow"
    try:
        if not args.tracking_uri and not (folder / DATABASE).exists():
            raise UserError(f"{folder}: holds no sweep; name its folder with --runs")
        with tracking_server(args.tracking_uri, folder) as uri, read_sweep(uri, args.sweep) as record:
            print("\n".join(lines(record)))
    except UserError as error:
        sys.exit(f"sweep.py: {error}")


if __name__ == "__main__":
    main()
