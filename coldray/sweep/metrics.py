"""What Prometheus is told of a running sweep: how fast its trials train, and how its cells stand."""

from collections.abc import Mapping

from ray.util.metrics import Gauge

CELL_STATES = ("waiting", "running", "done", "failed")


class TrainingSpeed:
    """Sequences a second of the training in this process: `ray_coldray_training_sequences_per_second`; 0 between trainings."""

    def __init__(self, sweep: str) -> None:
        self._gauge = Gauge(
            "coldray_training_sequences_per_second", "sequences a second of a trial's training", ("sweep",)
        )
        self._gauge.set_default_tags({"sweep": sweep})

    def set(self, report: Mapping[str, float]) -> None:
        """Tell the speed of an epoch, by its report; one without a speed is none of a training."""
        self._gauge.set(report.get("sequences_per_second", 0.0))


class CellStates:
    """How many cells of a sweep wait, run, are done and have failed: `ray_coldray_cells`, by `state`."""

    def __init__(self, sweep: str) -> None:
        self._gauge = Gauge("coldray_cells", "cells of a sweep", ("sweep", "state"))
        self._gauge.set_default_tags({"sweep": sweep})

    def set(self, total: int, running: int, done: int, failed: int) -> None:
        """Tell how they stand; what is none of the three waits."""
        counts = (total - running - done - failed, running, done, failed)
        for state, count in zip(CELL_STATES, counts, strict=True):
            self._gauge.set(count, {"state": state})
