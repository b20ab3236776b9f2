"""The head is killed and comes back, its state in Redis: services go on, a sweep goes on from where it was."""

import secrets
import shutil
import time

import pytest

from coldray.cluster import processes as p
from tests.chaos.conftest import Sweeps, finish
from tests.chaos.test_serving import Asking, deployed
from tests.plugins.nodes import Nodes, free_port, until

pytestmark = pytest.mark.chaos


@pytest.fixture
def kept():
    """Return nodes whose head keeps its state in Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    password = secrets.token_hex(16)
    waits = {"RAY_gcs_rpc_server_reconnect_timeout_s": "300"}
    made = Nodes(RAY_external_storage_namespace="chaos", **waits)
    made.cpus = 2  # the service takes some of one
    made.of_head = ["--redis-password", password, "--num-cpus", "0"]  # a replica there would end with it
    port, host = free_port(), made.network.address()
    made.environment["RAY_REDIS_ADDRESS"] = f"{host}:{port}"
    p.write_private(
        made.folder / "redis.conf", f"bind {host}\nport {port}\nrequirepass {password}\ndir {made.folder}\n"
    )
    command = ["redis-server", str(made.folder / "redis.conf")]
    made.programs["redis"] = p.start("redis", command, made.environment, ("", ""), made.folder / "redis.log")
    try:
        made.heal()
        yield made
    finally:
        made.close()


def test_a_killed_head_comes_back_with_what_it_knew(kept, slow_settings, undisturbed, tell, tmp_path) -> None:
    sweeps = Sweeps(kept, slow_settings, tmp_path)
    service = deployed(kept, tmp_path)
    asking = Asking(service[0].replace(kept.network.address("head"), kept.network.address("one")), service[1])
    asking.start()
    until(lambda: asking.good > 20, what="answers")
    before = time.monotonic()
    process = sweeps.start("head")
    until(lambda: sweeps.training("head"), what="a training")
    kept.kill("head")
    process.kill()  # the driver of a job lives there
    process.wait()
    good, slowest = asking.good, asking.slowest
    time.sleep(20)
    away = asking.good - good
    # Ray looks among the processes it can see whether its address is taken, and all nodes are on one machine here.
    apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc") if kept.network.separate else ()
    kept.start("head", *apart)
    until(lambda: set(kept.alive().values()) == set(kept.NAMES), what="the workers")
    finish(sweeps.start("head"))
    cost = time.monotonic() - before - undisturbed["seconds"]
    asking.stop.set()
    asking.join(90)
    assert sweeps.results("head") == undisturbed["results"]
    assert away > 0
    assert asking.lost == 0
    tell(
        "the head loses its power, with the driver of a sweep, and comes back after 20 s (its state in Redis)",
        "nothing: the same command goes on to the same bits; what is served goes on",
        f"{cost:+.0f} s of {undisturbed['seconds']:.0f} s; {away} requests were answered while it was away, "
        f"{asking.refused} had to be tried again, the slowest took {asking.slowest:.1f} s, before {slowest:.1f} s",
    )
