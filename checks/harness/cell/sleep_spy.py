"""Notes each `time.sleep`: one on an event loop's thread is a mistake, one on another thread will end."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable

from checks.harness.cell.stacks import Stack, stack_of


class SleepSpy:
    """Takes the place of `time.sleep`: before the learner's code is loaded, so that `from time import sleep` gets it.

    Attributes:
        stacks: where each sleep on a thread with a running event loop was called; the loop stood still meanwhile.
        elsewhere: how many sleeps there were on threads without one.
        noticed: called with where each such sleep was called, and its thread.
        naps: for each event loop's thread how often it slept, and the task that slept last.
    """

    def __init__(self) -> None:
        self.stacks: list[Stack] = []
        self.noticed: Callable[[Stack, int], None] = lambda *_: None
        self.elsewhere = 0
        self.naps: dict[int, tuple[int, object]] = {}
        self._sleep = time.sleep
        self._wakes: dict[object, float] = {}

    def due(self, seconds: float) -> bool:
        """Whether a thread without an event loop wakes up from its sleep within so many seconds."""
        return any(wakes <= time.monotonic() + seconds for wakes in list(self._wakes.values()))

    def install(self) -> None:
        """Take the place of `time.sleep`."""
        time.sleep = self  # type: ignore[assignment]

    def __call__(self, seconds: float, /) -> None:
        """Sleep for so many seconds."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.elsewhere += 1
            sleeper = object()
            self._wakes[sleeper] = time.monotonic() + seconds
            try:
                self._sleep(seconds)
            finally:
                del self._wakes[sleeper]
        else:
            thread = threading.get_ident()
            self.naps[thread] = (self.naps.get(thread, (0, None))[0] + 1, asyncio.current_task())
            self.stacks.append(stack_of(sys._getframe(1)))
            self.noticed(self.stacks[-1], thread)
            self._sleep(seconds)


SLEEPS = SleepSpy()
