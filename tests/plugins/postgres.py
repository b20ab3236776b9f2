"""A Postgres of the tests' own, where its programs are installed."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldray.cluster import processes as p
from tests.plugins.nodes import free_port


@contextlib.contextmanager
def postgres(host: str = "127.0.0.1") -> Iterator[str]:
    """Yield the address, password included, of an empty database that only this test can open; skip without Postgres."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), shutil.which("initdb")]
    programs = next((Path(path).parent for path in found if path), None)
    if programs is None:
        pytest.skip("postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    password, port = secrets.token_hex(16), free_port()
    secret = folder / "password"
    secret.write_text(password)
    as_user = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, secret):
            shutil.chown(path, "postgres")
    make = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "mlflow", "--auth=scram-sha-256"]
    subprocess.run([*as_user, *make, f"--pwfile={secret}"], check=True, capture_output=True, cwd=folder)
    with (folder / "data" / "pg_hba.conf").open("a") as known:
        known.write(f"host all mlflow {host}/32 scram-sha-256\n")
    run = [str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder), "-F"]
    run += ["-h", host, "-p", str(port)]
    program = p.start("postgres", [*as_user, *run], os.environ, ("", ""), folder.with_suffix(".log"))
    ready = [str(programs / "pg_isready"), "-h", host, "-p", str(port)]
    try:
        p.wait_until(
            program, lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 60
        )
        yield f"postgresql://mlflow:{password}@{host}:{port}/postgres"
    finally:
        p.stop(program)
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink()
