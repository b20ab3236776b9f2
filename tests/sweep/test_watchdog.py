"""The watchdog ends what it watches when its starter closes the pipe, and passes on an early end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import coldray.sweep.watchdog

SCRIPT = Path(coldray.sweep.watchdog.__file__)


def start(*command: str) -> "subprocess.Popen[bytes]":
    line = [sys.executable, "-I", str(SCRIPT), *command]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Wait until a process is no more (or is a zombie that nobody has waited for)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_ends_a_command_that_will_not_stop_and_its_children():
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    process = start(sys.executable, "-c", code)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.stdin.close()
    process.wait(20)
    assert all(gone(pid) for pid in pids)


def test_passes_on_the_exit_code_of_a_command_that_ends():
    process = start(sys.executable, "-c", "import sys; sys.exit(7)")
    assert process.wait(20) == 7
    process.stdin.close()


def test_ends_when_its_starter_is_killed_hard():
    code = (
        f"import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-I', {str(SCRIPT)!r}, 'sleep', '600'],"
        " stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    watchdog = int(starter.stdout.readline())
    os.kill(starter.pid, 9)
    starter.wait()
    assert gone(watchdog)
