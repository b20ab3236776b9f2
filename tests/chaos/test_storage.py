"""A sweep whose data and results are in an S3-compatible store that fails one request in twenty, its runs in Postgres."""

import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from coldray.cluster import processes as p
from tests.chaos.conftest import Sweeps, finish
from tests.plugins.bucket import BUCKET, KEYS
from tests.plugins.nodes import Nodes, free_port, until
from tests.plugins.postgres import postgres

pytestmark = pytest.mark.chaos


@pytest.fixture
def stored(tiny_dataset, tmp_path):
    """Return nodes that reach such a store, and what reads from it without errors of ours."""
    log = tmp_path / "requests"
    made = Nodes()
    port, host = free_port(), made.network.address()
    made.environment |= KEYS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    command = [sys.executable, "-m", "tests.plugins.bucket", host, str(port), "0.05", str(log)]
    try:
        made.programs["store"] = p.start(
            "store", command, made.environment, ("", ""), made.folder / "store.log"
        )
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", config=Config(retries={"max_attempts": 10}),
            aws_access_key_id="tests", aws_secret_access_key="tests", region_name="us-east-1",
        )  # fmt: skip
        until(lambda: _there(client), what="the store")
        for file in Path(tiny_dataset).rglob("*"):
            if file.is_file():
                client.upload_file(str(file), BUCKET, f"tiny/{file.relative_to(tiny_dataset)}")
        with postgres(host) as database:
            made.start_mlflow(database)
            made.heal()
            yield made, client, log
            made.kill("mlflow")
    finally:
        made.close()


def _there(client) -> bool:
    try:
        client.create_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True


def test_a_store_that_fails_one_request_in_twenty_costs_time_alone(
    stored, slow_settings, undisturbed, tell, tmp_path
) -> None:
    cluster, client, log = stored
    settings = slow_settings.model_copy(update={"dataset": f"s3://{BUCKET}/tiny"})
    sweeps = Sweeps(cluster, settings, tmp_path)
    before = time.monotonic()
    finish(sweeps.start("stored", f"s3://{BUCKET}/runs"))
    cost = time.monotonic() - before - undisturbed["seconds"]
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="runs/cells/")
    names = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert sum(name.endswith("ranks.parquet") for name in names) == 12
    assert sum(len(row["seeds"]) for row in sweeps.report("stored")) == 12
    asked = log.read_text().split()
    assert asked.count("1") > 10
    tell(
        "the store of data and results answers 5% of the requests with an error",
        "nothing: every cell has its result, and its run in Postgres",
        f"{cost:+.0f} s of {undisturbed['seconds']:.0f} s; {asked.count('1')} of {len(asked)} requests failed",
    )
