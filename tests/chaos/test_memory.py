"""A trial that eats all memory: Ray ends it, and the sweep says so and goes on."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import yaml

pytestmark = pytest.mark.chaos


def test_a_trial_that_eats_all_memory_fails_alone(tiny_settings, tell, tmp_path) -> None:
    settings = tiny_settings(
        methods=("popularity", "item-knn", "delta", "history-average"),
        name="hungry",
        seeds=(1,),
        training={"num_negatives": 200_000_000},  # 8 GB for a batch
    )
    file = tmp_path / "hungry.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 4 * 2**30) / memory.total
    environment = os.environ | {
        "RAY_memory_usage_threshold": f"{limit:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "coldray", "sweep", "run", str(file), "--runs", str(tmp_path / "runs"), "--json"],
        env=environment, capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    seconds = time.monotonic() - before
    assert done.returncode == 2, done.stderr[-3000:]
    assert "1 cells failed, the first: delta" in done.stderr
    assert "memory" in done.stderr
    assert len(list((tmp_path / "runs").glob("cells/*/ranks.parquet"))) == 3
    tell(
        "a trial asks for more memory than there is",
        "its own result alone: it is ended, four times, and named; the others finish",
        f"{seconds:.0f} s for all",
    )
