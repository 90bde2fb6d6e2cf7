"""Says when nothing more can happen on an event loop. It needs no limit for how long a right answer takes here."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Literal, TypeVarTuple, Unpack

import psutil

from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.machine import FairClock

Ts = TypeVarTuple("Ts")

ROUND = 0.01
"""Seconds of one look at the loop."""
LONGEST_ROUND = 1.0
"""Seconds that one look counts at most: a debugger may have stopped the whole process meanwhile."""
QUIET_ROUNDS = 20
"""Looks in a row at which nothing moved, after which nothing will."""
STILL_ROUNDS = 100
"""Looks in a row at which the loop answered nothing and its thread stood still."""
SPINNING = 3.0
"""Seconds of CPU time that the loop's thread may burn on one callback."""
STARVED = 20
"""From how many times their length on, on average over a wait, slow rounds are the machine's fault."""
TIMER_HORIZON = 2.0
"""Seconds within which a pending timer may still bring something."""


class WatchedLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop, with a list of its timers."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: weakref.WeakSet[asyncio.TimerHandle] = weakref.WeakSet()

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio, and remember the timer."""
        handle = super().call_at(when, callback, *args, context=context)
        self._timers.add(handle)
        return handle

    @property
    def has_ready(self) -> bool:
        """Whether there is something to run now, beside what asks."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def timer_within(self, seconds: float) -> bool:
        """Whether a timer that was not cancelled is due within so many seconds. Call it on the loop's own thread."""
        limit = self.time() + seconds
        return any(not timer.cancelled() and self.time() < timer.when() <= limit for timer in list(self._timers))


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why what was waited for will not happen.

    `settled`: the loop and its threads are idle. `blocked`: the loop's thread stands still inside one call.
    `spinning`: it computes and does not return. `ended`: the loop has ended. `late`: the deadline passed. `starved`: it
    passed, and the watching thread itself hardly ran, so no verdict is possible.
    """

    kind: Literal["settled", "blocked", "spinning", "ended", "late", "starved"]
    busy: bool = False
    """Whether the machine was too busy for a deadline to mean anything."""

    @property
    def words(self) -> str:
        """The same for a learner."""
        return {
            "settled": "the app was idle: no model call, no answer and no timer was pending",
            "blocked": "the event loop's thread stood still inside one call",
            "spinning": "the event loop's thread kept computing and did not return",
            "ended": "the event loop was stopped",
            "late": "it was still running when the time was up",
            "starved": "the machine was too busy to see what happened",
        }[self.kind]


class Watch:
    """Looks at a loop that runs on another thread."""

    def __init__(self, loop: WatchedLoop, thread: threading.Thread) -> None:
        self.loop = loop
        self.thread = thread
        self.changed = threading.Event()
        self.held_by: Callable[[int], object] = lambda _: None
        """Takes the loop's thread; true while a call is known to be held on it, so that nothing else runs there."""

    def until(
        self,
        done: Callable[[], object],
        progress: Callable[[], object],
        seconds: float = 30.0,
        horizon: float = TIMER_HORIZON,
    ) -> Standstill | None:
        """Wait until `done()`; `None` then, else the reason why it will not happen.

        `progress()` returns a value that differs when something happened. However busy the machine is, a verdict needs
        rounds in which the loop ran all that was ready, no timer and no sleeping thread was due within `horizon`
        seconds, no thread computed, and a new thread ran.
        """
        waited, last = 0.0, time.monotonic()
        ping, quiet, still = self._ping(horizon), 0, 0
        seen, position, burnt, busy = progress(), self._position(), self._cpu_seconds(), _others_cpu_seconds()
        rounds, naps, clock = 0, SLEEPS.naps.get(self.thread.ident or 0), FairClock()
        while not done():
            rounds += 1
            clock.seconds()
            ident = self.thread.ident or 0
            if not self.thread.is_alive():
                return Standstill("ended")
            if self.held_by(ident):
                return Standstill("blocked")
            now = time.monotonic()
            waited, last = waited + min(now - last, LONGEST_ROUND), now
            if waited > seconds:
                if rounds * STARVED < seconds / ROUND:
                    return Standstill("starved")
                return Standstill("late", busy=clock.busy)
            self.changed.wait(ROUND)
            self.changed.clear()
            _run_a_thread()
            state, busy_before, busy = progress(), busy, _others_cpu_seconds()
            if _at_a_debuggers_prompt():
                quiet, still, waited, burnt = 0, 0, 0.0, self._cpu_seconds()
                continue
            moving = state != seen or ping.timer_due or SLEEPS.due(horizon) or busy - busy_before > ROUND / 2
            if ping.answered.is_set():
                quiet = 0 if moving else quiet + 1
                still, burnt, position = 0, self._cpu_seconds(), self._position()
                if quiet >= QUIET_ROUNDS:
                    return None if done() else Standstill("settled")
                ping = self._ping(horizon)
            else:
                here, naps_before, naps = self._position(), naps, SLEEPS.naps.get(ident)
                # In one long sleep, or in many short ones of one task: those of many tasks come to an end.
                polling = naps and naps_before and naps[0] > naps_before[0] and naps[1] is naps_before[1]
                still, quiet = (still + 1 if here == position or polling else 0), 0
                position = here
                if still >= STILL_ROUNDS:
                    return None if done() else Standstill("blocked")
                if self._cpu_seconds() - burnt > SPINNING:
                    return None if done() else Standstill("spinning")
            seen = state
        return None

    def _ping(self, horizon: float) -> _Ping:
        ping = _Ping(self.loop, horizon)
        with contextlib.suppress(RuntimeError):  # closed: `until` sees that its thread has ended
            self.loop.call_soon_threadsafe(ping.first)
        return ping

    def _position(self) -> tuple[int, int, float]:
        """Where the loop's thread is, and its CPU time: the same twice in a row when it stands still."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        where = (id(frame), frame.f_lasti) if frame else (0, 0)
        return (*where, round(self._cpu_seconds(), 3))

    def _cpu_seconds(self) -> float:
        if self.thread.ident and self.thread.is_alive() and hasattr(time, "pthread_getcpuclockid"):
            return float(time.clock_gettime(time.pthread_getcpuclockid(self.thread.ident)))
        try:
            times = {t.id: t.user_time + t.system_time for t in psutil.Process().threads()}
        except psutil.Error:  # on macOS threads cannot be looked at: the process has to do
            return time.process_time()
        return times.get(self.thread.native_id or 0, 0.0)


class _Ping:
    """Answered when the loop has twice run everything that was ready."""

    def __init__(self, loop: WatchedLoop, horizon: float) -> None:
        self.loop = loop
        self.horizon = horizon
        self.answered = threading.Event()
        self.timer_due = False

    def first(self) -> None:
        self.loop.call_soon(self.second)

    def second(self) -> None:
        self.timer_due = self.loop.timer_within(self.horizon)
        self.answered.set()


def _others_cpu_seconds() -> float:
    """CPU time of this process, without that of the calling thread."""
    return time.process_time() - time.thread_time()


def _at_a_debuggers_prompt() -> bool:
    """Whether a thread is in Python's own debugger: then its user decides when anything goes on."""
    if "pdb" not in sys.modules:
        return False
    frames = [frame for top in sys._current_frames().values() for frame, _ in traceback.walk_stack(top)]
    return any(frame.f_globals.get("__name__") in ("pdb", "bdb") for frame in frames)


def _run_a_thread() -> None:
    """Return when a new thread has run: those that were ready before it have run, too."""
    thread = threading.Thread(target=lambda: None, daemon=True)
    thread.start()
    thread.join()
