"""What calls of a learner's method cost, as the kernel counts it: CPU time and memory of their process."""

from __future__ import annotations

import os
from typing import Any

import psutil

from checks.harness.cell.repeated import Ring, repeat
from checks.harness.judge import kernel
from checks.harness.judge.handles import Handle


def computed(thing: Any) -> float:
    """Seconds of CPU time that the process where it is has taken so far."""
    return kernel.computed(_pid(thing))


def many_cost(method: Any, argument: float, times: int) -> float:
    """Seconds of CPU time that so many calls take, made in one go."""
    started = computed(method)
    if isinstance(method, Handle):
        method._cell.ask("repeat", of=method._number, argument=argument, times=times)
    else:
        repeat(method, argument, times)
    return computed(method) - started


def one_costs(method: Any, *args: Any) -> float:
    """Seconds of CPU time that one call takes."""
    started = computed(method)
    method(*args)
    return computed(method) - started


def memory(thing: Any) -> int:
    """Bytes in the memory of the process where it is."""
    return int(psutil.Process(_pid(thing)).memory_info().rss)


def ring(like: Any, size: int) -> Any:
    """A window of the lab's own, in the process where the class `like` is."""
    return like._cell.ask("ring", size=size) if isinstance(like, Handle) else Ring(size)


def _pid(thing: Any) -> int:
    return thing._cell.pid if isinstance(thing, Handle) else os.getpid()
