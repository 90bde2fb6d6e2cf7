"""A model for the learner's service that counts calls, holds them at a gate, and releases them in any order."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from types import CodeType

from checks.harness.errors import LearnerError

SECONDS = 0.005
"""Seconds that a call stays which is not held, by default."""
LONGEST_HOLD = 60.0
"""Seconds after which a held call goes on by itself: a gate that is never opened must not hold a process for ever."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of the model. Times are `time.perf_counter()` seconds; `left` is `None` while it is inside."""

    features: tuple[float, ...]
    blocking: bool
    """Whether it came in through `predict_blocking`."""
    thread: int
    on_loop: bool
    """Whether an event loop runs on its thread: a blocking call stops all else there."""
    caller: tuple[CodeType, int]
    """Code and line that called."""
    entered: float
    left: float | None = None
    answer: float | None = None
    _go: Callable[[], None] = field(default=lambda: None, repr=False)


class Probe:
    """A model whose calls wait inside until the gate is open; without a gate they stay for `seconds`.

    `answer` makes the prediction of the features; without it that is their mean.

    Attributes:
        calls: the calls so far, those that have left among them.
        asked: how often it was called, calls with something else than numbers among them.
        inside: how many calls are in the model now; `peak` is the most that there were.
    """

    def __init__(
        self, *, held: bool = True, seconds: float = SECONDS, answer: Callable[[Sequence[float]], float] = fmean
    ) -> None:
        self.calls: list[Call] = []
        self.asked = 0
        self.peak = 0
        self.inside = 0
        self._held = held
        self._seconds = seconds
        self._answer = answer
        self._lock = threading.Lock()

    @property
    def questions_inside(self) -> int:
        """How many different questions are in the model now: a service may ask one of them twice."""
        return len({call.features for call in list(self.calls) if call.left is None})

    async def predict(self, features: Sequence[float]) -> float:
        """What an endpoint awaits."""
        call = self._enter(features, blocking=False)
        try:
            if self._held:
                gate, loop = asyncio.Event(), asyncio.get_running_loop()
                call._go = lambda: _thread_safe(loop, gate.set)
                if self._held:  # else it was opened in between, and _go will not be called
                    async with asyncio.timeout(LONGEST_HOLD):
                        await gate.wait()
            else:
                await asyncio.sleep(self._seconds)
            return self._answered(call)
        finally:
            self._leave(call)

    def predict_blocking(self, features: Sequence[float]) -> float:
        """What blocks the thread that calls it."""
        call = self._enter(features, blocking=True)
        try:
            if self._held:
                gate = threading.Event()
                call._go = gate.set
                if self._held:
                    gate.wait(LONGEST_HOLD)
            else:
                time.sleep(self._seconds)
            return self._answered(call)
        finally:
            self._leave(call)

    def open(self) -> None:
        """Release all calls; later ones are not held."""
        self._held = False
        for call in list(self.calls):
            call._go()

    def release(self, call: Call) -> None:
        """Let this one call go on."""
        call._go()

    def blocked_loop(self, thread: int) -> Call | None:
        """The call that is held on this thread although an event loop runs there: nothing else can run on that loop."""
        if not self._held:
            return None
        return next((c for c in self.calls if c.thread == thread and c.on_loop and c.blocking and c.left is None), None)

    def _enter(self, features: Sequence[float], *, blocking: bool) -> Call:
        caller = sys._getframe(2)
        with self._lock:
            self.asked += 1
        given = features if isinstance(features, Sequence) and not isinstance(features, str | bytes) else None
        if given is None or not all(isinstance(value, int | float) for value in given):
            shown = textwrap.shorten(str(features), 50, placeholder=" ...")
            raise LearnerError(
                f"the model was given {shown!r} ({type(features).__name__})",
                wanted="the list of numbers, `body.features`",
                hint="It is a coroutine: put `await` in front of the call that gave it."
                if asyncio.iscoroutine(features)
                else "`model.predict(body.features)`; the body's own type refuses what is not a number.",
            )
        call = Call(
            features=tuple(given),
            blocking=blocking,
            thread=threading.get_ident(),
            on_loop=_on_event_loop(),
            caller=(caller.f_code, caller.f_lineno),
            entered=time.perf_counter(),
        )
        with self._lock:
            self.calls.append(call)
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        return call

    def _answered(self, call: Call) -> float:
        call.answer = self._answer(call.features)
        return call.answer

    def _leave(self, call: Call) -> None:
        call.left = time.perf_counter()
        with self._lock:
            self.inside -= 1


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _thread_safe(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
