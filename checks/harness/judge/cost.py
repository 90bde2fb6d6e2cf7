"""What calls of a learner's method cost, as the kernel counts it: CPU time and memory of their process."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil

from checks.harness.cell.repeated import Ring, repeat
from checks.harness.judge import kernel
from checks.harness.judge.handles import Handle


def computing(method: Any, argument: float, times: int) -> float:
    """Seconds of CPU time that so many calls take, made in one go."""
    if not isinstance(method, Handle):
        started = time.process_time()
        repeat(method, argument, times)
        return time.process_time() - started
    started = kernel.computed(method._cell.pid)
    method._cell.ask("repeat", of=method._number, argument=argument, times=times)
    return kernel.computed(method._cell.pid) - started


def costs(method: Any, *args: Any) -> float:
    """Seconds of CPU time that one call takes, in the process where it is."""
    pid = method._cell.pid if isinstance(method, Handle) else None
    started = time.process_time() if pid is None else kernel.computed(pid)
    method(*args)
    return (time.process_time() if pid is None else kernel.computed(pid)) - started


def memory(thing: Any) -> int:
    """Bytes in the memory of the process where it is."""
    pid = thing._cell.pid if isinstance(thing, Handle) else os.getpid()
    return int(psutil.Process(pid).memory_info().rss)


def ring(like: Any, size: int) -> Any:
    """A window of the lab's own, in the process where the class `like` is."""
    return like._cell.ask("ring", size=size) if isinstance(like, Handle) else Ring(size)
