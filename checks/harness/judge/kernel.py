"""What the kernel says of a cell: whether it sleeps, how many threads it has, how much it has computed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

_PROC = Path("/proc")


class Look(NamedTuple):
    """All threads of a process and of what it has started, at one moment.

    `asleep`: each of them waits for something. `ran` differs between two looks if any of them ran in between.
    """

    asleep: bool
    ran: tuple[tuple[str, str], ...]


def can_look() -> bool:
    """Whether there is a kernel here that says."""
    return (_PROC / "self" / "task").is_dir()


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]


def look(pids: Iterable[int]) -> Look:
    """One look. A process that has ended has no threads; one that is started meanwhile was started by one that ran."""
    asleep, ran = True, list[tuple[str, str]]()
    for thread in [thread for pid in pids for thread in _threads(pid)]:
        try:
            told = (thread / "status").read_text()
        except OSError:
            continue
        state = told[told.index("\nState:\t") + 8]
        asleep = asleep and state in "SI"
        ran.append((str(thread), told[told.index("\nvoluntary_ctxt_switches") :]))
    return Look(asleep, tuple(ran))


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(_threads(pid))


def computed(pid: int) -> float:
    """Seconds of CPU time that a process has taken so far, threads that have ended among it.

    To the nanosecond on Linux, where each process has a clock: `clock_getcpuclockid` makes its number like this.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2) if sys.platform == "linux" else _times(pid)
    except OSError:
        return _times(pid)


def _times(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _threads(pid: int) -> list[Path]:
    try:
        return [*(_PROC / str(pid) / "task").iterdir()]
    except OSError:
        return []
