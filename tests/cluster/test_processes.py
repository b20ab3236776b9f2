"""Programs that outlive the command that starts them."""

import os
import socket
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from coldray.cluster import processes as p
from coldray.errors import ServiceError, UserError

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


@pytest.fixture
def started(tmp_path):
    """Return a function that starts a program, which is ended afterwards."""
    made = []

    def make(command=SLEEP, name="sleeper"):
        made.append(
            p.start(name, command, os.environ, ("127.0.0.1:1", ""), tmp_path / "logs" / f"{name}.log")
        )
        return made[-1]

    yield make
    for program in made:
        p.stop(program)


def test_a_program_is_known_again_and_ends_with_all_that_it_started(started, tmp_path):
    child = f"import subprocess, sys; subprocess.run({SLEEP!r})"
    program = started([sys.executable, "-c", child])
    p.write_programs(tmp_path / "state.json", [program])
    (again,) = p.read_programs(tmp_path / "state.json")
    assert again == program
    deadline = time.monotonic() + 20
    while not psutil.Process(program.pid).children():
        assert time.monotonic() < deadline
    (grandchild,) = psutil.Process(program.pid).children()
    assert p.stop(again)
    assert again.process() is None
    assert not grandchild.is_running()
    assert not p.stop(again)


FAMILY = '''
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("child", flush=True)))
print("here", flush=True)
time.sleep(600)
"""])
def end(*_):
    time.sleep(0.5)
    print("leader", flush=True)
    child.terminate()
    sys.exit(child.wait())
signal.signal(signal.SIGTERM, end)
time.sleep(600)
'''


def test_a_program_may_end_what_it_started_by_itself(started):
    program = started([sys.executable, "-c", FAMILY])
    log, deadline = Path(program.log), time.monotonic() + 20
    while log.read_text() != "here\n":
        assert time.monotonic() < deadline
    assert p.stop(program)
    assert log.read_text().split() == ["here", "leader", "child"]


def test_another_process_with_the_same_number_is_left_alone(started):
    program = replace(started(), created=1.0)
    assert program.process() is None
    assert not p.stop(program)


def test_files_are_for_their_owner_alone(started, tmp_path):
    program = started()
    p.write_programs(tmp_path / "state.json", [program])
    for path in (program.log, tmp_path / "state.json"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "state.json"]


def test_a_program_that_ends_or_is_silent_is_told_with_its_last_words(started):
    ended = started([sys.executable, "-c", "print('no room'); raise SystemExit(3)"], "ender")
    with pytest.raises(ServiceError, match=r"ender ended as it started; see .*: no room"):
        p.wait_until(ended, lambda: False, 30)
    with pytest.raises(ServiceError, match=r"sleeper did not answer at 127.0.0.1:1 in 1 s"):
        p.wait_until(started(), lambda: False, 1)
    p.wait_until(started(), lambda: True, 1)


def test_a_taken_port_is_named_with_who_has_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"ray: port {port} is taken.* with --port") as told:
            p.check_free("ray", "127.0.0.1", port, "--port")
        assert f"by process {os.getpid()}" in str(told.value)
    p.check_free("ray", "127.0.0.1", port, "--port")
    with pytest.raises(UserError, match=r"--host 203.0.113.1: is no address of this machine"):
        p.check_free("ray", "203.0.113.1", port, "--port")


def test_a_state_that_is_not_ours_is_refused(tmp_path):
    file = tmp_path / "state.json"
    assert p.read_programs(file) == []
    for text in ("no json", '[{"name": 1}]', "[1]"):
        file.write_text(text)
        with pytest.raises(UserError, match="remove it once nothing of it runs"):
            p.read_programs(file)
