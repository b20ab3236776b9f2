"""Run a program and measure all of it, Ray's processes included: time, processors, memory, and what else the machine did."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.05
"""seconds between two looks, at least; ten times what a look takes where that is more"""


@dataclass(frozen=True)
class Cost:
    """What a program and all that it started took."""

    ended: str
    """"done"; or why not: "failed", "time", "memory" """
    seconds: float
    processor: float
    """seconds of processors, as far as they were seen: a process's last moment may be missing"""
    peak: int
    """bytes, at most at a time: proportional set sizes, so that memory which processes share counts once"""
    others: float
    """cores that other programs of the machine used meanwhile, on average"""


class Tree:
    """A process and all that came of it, those included whose parents have died since."""

    def __init__(self, root: int) -> None:
        self.known = {root: psutil.Process(root)}
        self.spent: dict[int, float] = {}

    def look(self) -> int:
        """Find new processes, note the processor time of all, and return the bytes that they hold."""
        there = {process.pid: process for process in psutil.process_iter(["ppid"])}
        more = True
        while more:
            new = {
                pid: p for pid, p in there.items() if p.info["ppid"] in self.known and pid not in self.known
            }
            self.known |= new
            more = bool(new)
        held = 0
        for pid, process in list(self.known.items()):
            try:
                if not process.is_running():  # false, too, where another process has the number by now
                    raise psutil.NoSuchProcess(pid)
                times = process.cpu_times()
                self.spent[pid] = times.user + times.system
                held += pss(pid)
            except (psutil.Error, OSError):
                if pid not in there or not process.is_running():
                    del self.known[pid]
        return held

    def end(self) -> None:
        """End all of them."""
        self.look()
        for process in self.known.values():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def busy() -> float:
    """Return the seconds that the machine's processors have been at work."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.steal - times.guest - times.guest_nice)


def run(command: list[str], log: Path, limit: float, memory: float, env: dict[str, str]) -> tuple[Cost, str]:
    """Run `command` and return what it took and its output; its messages go to `log`.

    It is ended after `limit` seconds, and when it holds more than `memory` bytes: before the machine ends something else.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    output = log.with_suffix(".out")
    before, began, peak, why = busy() - time.process_time(), time.monotonic(), 0, ""
    with log.open("wb") as errors, output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=env)
        tree = Tree(process.pid)
        try:
            while process.poll() is None and not why:
                looked = time.monotonic()
                held = tree.look()
                peak = max(peak, held)
                why = "memory" if held > memory else "time" if time.monotonic() - began > limit else ""
                if not why:
                    time.sleep(
                        max(INTERVAL, 10 * (time.monotonic() - looked))
                    )  # much memory takes long to look at
        finally:
            if process.poll() is None:
                tree.end()
                process.wait()
    seconds, spent = time.monotonic() - began, sum(tree.spent.values())
    others = max(0.0, busy() - time.process_time() - before - spent) / seconds  # looking is not others' work
    ended = why or ("failed" if process.returncode else "done")
    return Cost(ended, seconds, spent, peak, others), output.read_text()
