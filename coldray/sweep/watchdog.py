"""Runs a command and ends it when whoever started this has gone. A script; needs the standard library only.

The starter holds the other end of this process's standard input. Closing it, or dying by any means, kill -9
included, is read here as end of file, and the whole process group is ended: asked first, then killed.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 5.0


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input is closed; return its exit code.

    Must lead a process group of its own: that group is what is ended.
    """
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # the group is asked to end, and this must outlive it to make sure
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  (the command is our own)
    threading.Thread(target=_end_when_alone, args=(child,), daemon=True).start()
    return child.wait()


def _end_when_alone(child: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of standard input, then end the process group, this process last."""
    while os.read(0, 1):  # not sys.stdin: a reader of it must not be left waiting when the interpreter ends
        pass
    os.killpg(0, signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        print("the server did not stop when asked and was killed", file=sys.stderr, flush=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
