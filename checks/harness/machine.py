"""How busy this machine is: what an upper bound on real time is measured against where no control runs beside it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BUSY = 3.0
"""Runnable threads per core from which the machine counts as busy: work then takes three times as long, or longer."""

_LOADAVG = Path("/proc/loadavg")
_BETWEEN = 0.1


def crowding() -> float:
    """Threads that want a core at this moment, per core, at least 1.0: as many times as long computing takes now.

    On Linux the kernel counts them; elsewhere it is the load average of the last minute, which lags.
    """
    try:
        wanting = int(_LOADAVG.read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        wanting = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1.0, wanting / CORES)


class FairClock:
    """Counts the seconds that an idle machine would have needed: with 8 threads for 2 cores a second counts a quarter.

    Ask it often (a polling loop does): each call counts the time since the last one by how crowded the machine is now.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._started = self._last
        self._fair = 0.0
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Fair seconds so far."""
        with self._lock:
            now = time.monotonic()
            self._fair += (now - self._last) / crowding()
            self._last = now
            return self._fair

    @property
    def real_seconds(self) -> float:
        """Seconds that have really passed."""
        return time.monotonic() - self._started

    @property
    def stretch(self) -> float:
        """How many times as long everything took as it would have on an idle machine, on average so far."""
        fair = self.seconds()
        return (self._last - self._started) / fair if fair > 0 else 1.0

    @property
    def busy(self) -> bool:
        """Whether the machine was too busy, on average, for an upper bound on real time to mean anything."""
        return self.stretch >= BUSY


@contextmanager
def fair_clock() -> Iterator[FairClock]:
    """A `FairClock` that a thread asks ten times a second while the body runs."""
    clock, over = FairClock(), threading.Event()

    def ask_often() -> None:
        while not over.wait(_BETWEEN):
            clock.seconds()

    thread = threading.Thread(target=ask_often, name="fair clock", daemon=True)
    thread.start()
    try:
        yield clock
    finally:
        over.set()
        thread.join()


def load() -> float:
    """Processes that ran or were ready to run, on average over the last minute; now, where there is no average."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else crowding() * CORES


def load_in_words(wanting: float | None = None) -> str:
    """The same, or so many threads that want a core: "load 44 on 2 cores"."""
    return f"load {load() if wanting is None else wanting:.0f} on {CORES} core{'s' if CORES != 1 else ''}"
