"""A model for the learner's service that counts calls, holds them at a gate, and releases them in any order."""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from checks.harness.errors import LearnerError, cut

SECONDS = 0.005
"""Seconds that a call stays which is not held, by default."""
LONGEST_HOLD = 60.0
"""Seconds after which a held call goes on by itself: a gate that is never opened must not hold a process for ever."""


@dataclass(slots=True, eq=False, kw_only=True)
class Held:
    """A call that may wait at a gate. Times are `time.perf_counter()` seconds; `left` is `None` while it is inside."""

    blocking: bool
    """Whether its thread stands still meanwhile."""
    thread: int
    on_loop: bool
    """Whether an event loop runs on its thread: a blocking call stops all else there."""
    inside: int = 0
    """How many calls were in the model already when it came."""
    left: float | None = None
    go: Callable[[], None] = field(default=lambda: None, repr=False)
    """Lets it go on."""


@dataclass(slots=True, eq=False)
class Call(Held):
    """One call of `predict`, or of `predict_blocking`."""

    features: tuple[float, ...]
    caller: tuple[Any, int]
    """Code and line that called."""
    entered: float
    answer: float | None = None


C = TypeVar("C", bound=Held)


class Gated(Generic[C]):
    """Calls of a model that wait inside until the gate is open; without a gate they stay for `seconds`.

    Attributes:
        calls: the calls so far, those that have left among them.
        held: whether calls wait for the gate.
        inside: how many calls are in the model now; `peak` is the most that there were.
    """

    def __init__(self, *, held: bool, seconds: float = 0.0) -> None:
        self.calls: list[C] = []
        self.seconds = seconds
        self.peak = 0
        self.inside = 0
        self.held = held
        self._lock = threading.Lock()

    @property
    def held_calls(self) -> list[C]:
        """The calls that are in the model now."""
        return [call for call in list(self.calls) if call.left is None]

    def progress(self) -> int:
        """Differs when something happened."""
        return len(self.calls)

    def open(self) -> None:
        """Release all calls; later ones are not held."""
        self.held = False
        for call in list(self.calls):
            call.go()

    def release(self, call: C) -> None:
        """Let this one call go on."""
        call.go()

    def stay(self, call: C) -> float:  # noqa: ARG002  # for one whose calls differ
        """Seconds that a call stays which is not held."""
        return self.seconds

    def leave(self, call: C) -> None:
        """End a call."""
        call.left = time.perf_counter()
        with self._lock:
            self.inside -= 1

    def blocked_loop(self, thread: int) -> C | None:
        """The call that is held on this thread although an event loop runs there: nothing else can run on that loop."""
        if not self.held:
            return None
        return next((c for c in self.held_calls if c.thread == thread and c.on_loop and c.blocking), None)

    def _take_in(self, call: C) -> C:
        with self._lock:
            call.inside = self.inside
            self.calls.append(call)
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        return call

    def _wait(self, call: C) -> None:
        """Block this thread until the gate is open, or the call is released."""
        gate = threading.Event()
        call.go = gate.set
        if self.held:  # else it was opened in between, and `go` will not be called
            gate.wait(LONGEST_HOLD)


class Probe(Gated[Call]):
    """A model whose calls wait inside until the gate is open; without a gate they stay for `seconds`.

    `answer` makes the prediction of the features. Without it, it is one that nobody can guess who has not asked, always
    the same for the same features. `asked` is how often it was called, calls with something else than numbers among
    them.
    """

    def __init__(
        self, *, held: bool = True, seconds: float = SECONDS, answer: Callable[[Sequence[float]], float] | None = None
    ) -> None:
        super().__init__(held=held, seconds=seconds)
        self.asked = 0
        self.answer = answer or secret()

    @property
    def questions_inside(self) -> int:
        """How many different questions are in the model now: a service may ask one of them twice."""
        return len({call.features for call in self.held_calls})

    async def predict(self, features: Sequence[float]) -> float:
        """What an endpoint awaits."""
        call = self._enter(features, blocking=False)
        try:
            if self.held:
                gate, loop = asyncio.Event(), asyncio.get_running_loop()
                call.go = lambda: _thread_safe(loop, gate.set)
                if self.held:  # else it was opened in between, and `go` will not be called
                    async with asyncio.timeout(LONGEST_HOLD):
                        await gate.wait()
            else:
                await asyncio.sleep(self.stay(call))
            return self.answered(call)
        finally:
            self.leave(call)

    def predict_blocking(self, features: Sequence[float]) -> float:
        """What blocks the thread that calls it."""
        call = self._enter(features, blocking=True)
        try:
            if self.held:
                self._wait(call)
            else:
                time.sleep(self.stay(call))
            return self.answered(call)
        finally:
            self.leave(call)

    def enter(self, features: Sequence[float], *, blocking: bool, thread: int, on_loop: bool, caller: Any) -> Call:
        """Take a call in: numbers, from that thread, whose code and line are `caller`. `leave` ends it."""
        now = time.perf_counter()
        return self._take_in(Call(tuple(features), caller, now, blocking=blocking, thread=thread, on_loop=on_loop))

    def answered(self, call: Call) -> float:
        """The answer to a call, which the call then has."""
        call.answer = self.answer(call.features)
        return call.answer

    def _enter(self, features: Sequence[float], *, blocking: bool) -> Call:
        frame = sys._getframe(2)
        with self._lock:
            self.asked += 1
        if not numbers(features):
            seen, hint = no_numbers(features)
            raise LearnerError(seen, wanted=NUMBERS, hint=hint)
        caller = (frame.f_code, frame.f_lineno)
        thread, on_loop = threading.get_ident(), on_event_loop()
        return self.enter(features, blocking=blocking, thread=thread, on_loop=on_loop, caller=caller)


NUMBERS = "the list of numbers, `body.features`"
"""What a model is to be given."""


def numbers(features: object) -> bool:
    """Whether these are features: a sequence of numbers."""
    listed = isinstance(features, Sequence) and not isinstance(features, str | bytes)
    return listed and all(isinstance(value, int | float) for value in features)  # type: ignore[attr-defined]


def no_numbers(given: object) -> tuple[str, str]:
    """What is said of something else that a model was given, and what mends it."""
    shown = cut(str(given), 50)
    hint = "`model.predict(body.features)`; the type of the body's field refuses everything that is not a number."
    if asyncio.iscoroutine(given):
        hint = "It is a coroutine: put `await` in front of the call that gave it."
    return f"the model was given {shown!r} ({type(given).__name__})", hint


def secret() -> Callable[[Sequence[float]], float]:
    """What nobody can guess who has not asked: a number for features, always the same for the same ones."""
    key = secrets.token_hex()

    def answer(features: Sequence[float]) -> float:
        return random.Random(f"{key} {[float(one) for one in features]}").uniform(-1e6, 1e6)

    return answer


def on_event_loop() -> bool:
    """Whether an event loop runs on the thread that calls this."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _thread_safe(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
