import io
import pickle
from types import SimpleNamespace

import pytest
from rich.console import Console

from coldray.sweep.console import SweepConsole, label
from coldray.sweep.grid import make_cells

METRICS = {
    "cold_ndcg_at_10": 0.25,
    "cold_recall_at_10": 0.5,
    "warm_ndcg_at_10": 0.125,
    "ndcg_at_10": 0.2,
    "seconds": 3.0,
}


class Trial(SimpleNamespace):
    def get_pickled_error(self):
        return None

    def get_error(self):
        return "Traceback\n  here\nRuntimeError: it broke\n"


@pytest.fixture
def trials(tiny_settings):
    return [
        Trial(trial_id=str(i), config={"cell": cell}, last_result={})
        for i, cell in enumerate(make_cells(tiny_settings()))
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_it_follows_a_sweep(trials, terminal) -> None:
    out = io.StringIO()
    console = SweepConsole("followed", len(trials), 2)
    console._terminal = Console(file=out, force_terminal=terminal, width=120)
    with console:
        for trial in trials[:3]:
            console.on_trial_start(0, [], trial)
        epoch = {"epoch": 3, "validation_ndcg_at_10": 0.0625, "sequences_per_second": 1234.0}
        console.on_trial_result(0, [], trials[0], epoch)
        trials[0].last_result = METRICS
        console.on_trial_complete(0, [], trials[0])
        trials[1].last_result = {"failure": "the disk is full"}
        console.on_trial_complete(0, [], trials[1])
        console.on_trial_error(0, [], trials[2])
    said = out.getvalue()
    assert label(trials[0].config["cell"]) == "delta seed=42"
    assert "0.2500" in said
    assert "the disk is full" in said
    assert "RuntimeError: it broke" in said
    assert console.completed == 1
    assert list(console.failed.values()) == ["the disk is full", "RuntimeError: it broke"]
    if not terminal:
        assert "[3/8] delta seed=42: cold NDCG@10 0.2500, warm 0.1250, total 0.2000 (3.0 s)" in said


def test_tune_may_pickle_it() -> None:
    pickle.dumps(SweepConsole("pickled", 3, 0))
