"""What a sweep tells of itself; `tests/cluster/test_monitoring.py` asks a real Prometheus for it."""

from coldray.sweep import metrics


def test_cells_that_are_nothing_else_wait(monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(
        metrics.Gauge, "set", lambda self, value, tags=None: seen.update({tags["state"]: value})
    )
    metrics.CellStates("a sweep").set(total=10, running=2, done=3, failed=1)
    assert seen == {"waiting": 4, "running": 2, "done": 3, "failed": 1}


def test_no_training_has_no_speed(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(metrics.Gauge, "set", lambda self, value, tags=None: seen.append(value))
    speed = metrics.TrainingSpeed("a sweep")
    speed.set({"sequences_per_second": 1500.0, "train_loss": 3.0})
    speed.set({})
    assert seen == [1500.0, 0.0]
