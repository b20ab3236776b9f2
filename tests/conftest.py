"""What the tests share: one Ray for the whole run, and how hypothesis searches."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Before Ray, MLflow and transformers are imported: nothing is reported and nothing is fetched from a hub.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
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
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=200 * 1024**2,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    yield
    ray.shutdown()
