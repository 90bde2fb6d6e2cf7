"""Watches the learner's code in a scene: what it raises, where it sleeps, spins, or reads another clock."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.stacks import Stack, stacks
from checks.harness.errors import LearnerError
from checks.harness.source_lines import SourceLines

CPU_SECONDS = 3.0
"""CPU time of this process after which a scene, which takes milliseconds, will not come to its end."""
LOOK = 0.2
CLOCKS = ("monotonic", "monotonic_ns", "time", "time_ns", "perf_counter", "perf_counter_ns")
"""Functions of `time` that read another clock than the loop's virtual one."""
MISTAKES = (
    TypeError,
    AttributeError,
    NameError,
    LookupError,
    ValueError,
    ArithmeticError,
    AssertionError,
    ImportError,
    RecursionError,
)
"""Exceptions that no batcher raises on purpose, where the model does not fail."""


class Slept(BaseException):
    """Ends a `time.sleep` on the loop's thread before it begins."""


class Spun(BaseException):
    """Ends code that computes for ever and never gives way to the loop."""


class Watch:
    """What was seen of a scene.

    Attributes:
        errors: what was raised to callers.
        unseen: what tasks and callbacks raised, which no caller got.
        clock: the learner's line that read another clock, if one did.
        slept: where `time.sleep` was called on the loop's thread.
        spun: whether the scene was ended because its code computed without an end; `spun_at` is where.
    """

    def __init__(self, lines: SourceLines) -> None:
        self._lines = lines
        self.errors: list[BaseException] = []
        self.unseen: list[BaseException] = []
        self.clock: str | None = None
        self.slept: list[Stack] = []
        self.spun = False
        self.spun_at: str | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    @contextlib.contextmanager
    def over(self) -> Iterator[None]:
        """Watch what runs in this block, on this thread."""
        noticed, clocks = SLEEPS.noticed, {name: getattr(time, name) for name in CLOCKS}
        SLEEPS.install()
        SLEEPS.noticed = self._no_sleep
        for name, read in clocks.items():
            setattr(time, name, self._noting(read))
        try:
            yield
        finally:
            SLEEPS.noticed = noticed
            for name, read in clocks.items():
                setattr(time, name, read)

    @contextlib.contextmanager
    def tasks_of(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Note what the tasks of this loop raise that begin in this block, and end the running one if it spins."""
        loop.set_exception_handler(lambda _, context: self._callback_raised(context.get("exception")))
        loop.set_task_factory(self._made)
        enough, scene = threading.Event(), asyncio.current_task()
        args = (loop, scene, threading.get_ident(), enough)
        threading.Thread(target=self._end_what_spins, args=args, daemon=True).start()
        try:
            yield
        finally:
            enough.set()
            loop.set_task_factory(None)
            ended = [task for task in self._tasks if task.done() and not task.cancelled()]
            self.unseen += [error for task in ended if (error := task.exception())]

    def raise_of_stubs(self) -> None:
        """Raise the `NotImplementedError` of a stub that was called, whoever got it: that part is not started."""
        for one in [*self.errors, *self.unseen]:
            if isinstance(one, NotImplementedError) and self._lines.where_raised(one.__traceback__):
                raise one

    def explain(self, *, served: bool, left: bool) -> None:
        """Raise what explains everything else, if there is such a thing.

        `served`: each caller's wait had an end; `left`: a caller was cancelled, whose future is then done.
        """
        if self.slept:
            raise LearnerError(
                "time.sleep was called on the event loop's own thread: meanwhile no request can start or end",
                self._lines.where_first(self.slept),
                wanted="all waiting is awaited",
                hint="`loop.call_at(due, ...)` or `await asyncio.sleep(...)` wait, and let the others run.",
            )
        for ours in self.errors:
            if isinstance(ours, LearnerError):
                raise ours
        kinds = MISTAKES if left else (*MISTAKES, asyncio.InvalidStateError)
        mistakes = [one for one in [*self.errors, *([] if served else self.unseen)] if isinstance(one, kinds)]
        for one in mistakes:
            if self._lines.where_raised(one.__traceback__):
                raise one
        if self.spun and not self.clock:
            raise LearnerError(
                "your code kept computing and did not end: a wait that polls costs a whole core",
                self.spun_at,
                wanted="a task that waits sleeps until there is something to do",
                hint="`await` a future or an event. The clock of this checkpoint goes on only when all tasks wait.",
            )

    def _no_sleep(self, stack: Stack, _: int) -> None:
        self.slept.append(stack)
        raise Slept

    def _noting(self, read: Callable[[], Any]) -> Callable[[], Any]:
        def reading() -> Any:
            frame = sys._getframe(1)
            self.clock = self.clock or self._lines.where(frame.f_code, frame.f_lineno)
            return read()

        return reading

    def _made(self, loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **named)
        self._tasks.append(task)
        return task

    def _callback_raised(self, error: object) -> None:
        if isinstance(error, Exception):
            self.unseen.append(error)

    def _end_what_spins(self, loop: Any, scene: Any, thread: int, enough: threading.Event) -> None:
        """Cancel the scene when this process has computed for long; end a loop in Python that does not notice."""
        begun = time.process_time()
        while not enough.wait(LOOK):
            if time.process_time() - begun > CPU_SECONDS:
                break
        else:
            return
        self.spun = True
        with contextlib.suppress(Exception):  # it only points at a line
            self.spun_at = self._lines.where_first(stacks(thread))
        loop.call_soon_threadsafe(scene.cancel)
        while not enough.wait(LOOK):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Spun))
