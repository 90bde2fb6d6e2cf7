"""Which of the learner's lines an admission control goes through: where it lets in, lets wait, and hands a slot on.

What is found out here explains: it names a line, and decides nothing.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from checks.harness.cell.exchange import Exchange
from checks.harness.cell.stacks import Line, called_from, line_of, suspended

SECONDS = 0.05, 0.5
"""How long a request may wait: real seconds, since a control that polls would hold up a virtual clock for ever. The
longer one where a wait was over before it was looked at: on a busy machine."""
TURNS = 30
"""Turns of the loop after which a right answer has long done what it does."""
MOST_LINES = 20
LONGEST = 3.0
"""Seconds after which a control is not looked at any more."""


def turns(control: Any) -> dict[str, list[Line]]:
    """The lines, each kind as far as it was seen, of a control with one slot and one place to wait.

    - `passes`: what calls the app below.
    - `waits`: the stack of a second request, from the outside in, if it waits.
    - `decides`: the functions that began for that second request.
    - `hands`: those that began when the first one had left the app.
    - `leaves`: those that began when a wait had been too long.
    - `together`: what calls the app below for a second of two that came at once.
    """
    found: dict[str, list[Line]] = {}
    for scene in (_together, _one_after_the_other):
        for seconds in SECONDS:
            with suppress(Exception, _Late), _at_most(LONGEST):
                if not asyncio.run(scene(control, found, seconds)):
                    continue
            break
    return {kind: lines[:MOST_LINES] for kind, lines in found.items()}


def stack_of_a_refusal(control: Any) -> list[Line]:
    """From the inside out the lines that send the refusal of a second request, where only one may be in the app."""
    found: list[Line] = []

    async def below(*_: Any) -> None:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and not found:
            found.extend(called_from(sys._getframe(1), MOST_LINES))

    async def two() -> None:
        app, second = control(below, max_in_flight=1, max_queue=0, queue_seconds=1.0), Exchange("POST", "/predict")
        tasks = [_arrive(app)]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(app(second.scope, second._receive, send)))
        await _some_turns()
        await _end(tasks)

    with suppress(Exception, _Late), _at_most(LONGEST):
        asyncio.run(two())
    return found


class _Late(BaseException):
    """What the learner's code does not catch."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Break off what blocks the thread. Without such a signal, or on another thread, nothing is broken off."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def _one_after_the_other(control: Any, found: dict[str, list[Line]], seconds: float) -> bool:
    """Whether the second request was looked at before its wait was over."""
    gates: list[asyncio.Future[None]] = []
    found.update(passes=[], decides=[], hands=[], leaves=[])
    app, begun = _guarded(control, gates, found["passes"], seconds), _Begun(control)
    tasks: list[asyncio.Task[Any]] = []
    for lines in ([], found["decides"]):
        arrived = time.monotonic()
        with begun.noted(lines):
            tasks.append(_arrive(app))
            await _some_turns()
    found["waits"] = (
        [] if len(gates) > 1 or tasks[1].done() else [line_of(frame) for frame, _ in suspended(tasks[1].get_coro())]
    )
    with begun.noted(found["hands"]):
        gates[0].set_result(None)
        await _some_turns()
    in_time = time.monotonic() - arrived < seconds
    with begun.noted([]):
        tasks.append(_arrive(app))
        await _some_turns()
    with begun.noted(found["leaves"]):
        await asyncio.sleep(3 * seconds)
    await _end(tasks)
    return in_time


async def _together(control: Any, found: dict[str, list[Line]], seconds: float) -> bool:
    """Whether the second request was looked at before its wait was over."""
    lines: list[Line] = []
    app, arrived = _guarded(control, [], lines, seconds), time.monotonic()
    tasks = [_arrive(app), _arrive(app)]
    await _some_turns()
    found["together"] = lines[1:]
    in_time = time.monotonic() - arrived < seconds
    await _end(tasks)
    return in_time


def _guarded(control: Any, gates: list[asyncio.Future[None]], passes: list[Line], seconds: float) -> Any:
    """The control around an app that holds each request at a gate of its own, and notes what called it."""

    async def below(_: Any, __: Any, send: Any) -> None:
        passes.append(line_of(sys._getframe(1)))
        gates.append(asyncio.get_running_loop().create_future())
        await gates[-1]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return control(below, max_in_flight=1, max_queue=1, queue_seconds=seconds)


def _arrive(app: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(Exchange("POST", "/predict").run(app))


async def _some_turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Begun:
    """Notes which functions of the control's folder begin; a coroutine that goes on has begun before."""

    def __init__(self, control: Callable[..., Any]) -> None:
        code: CodeType = control.__call__.__code__  # type: ignore[operator]  # a class that defines it
        self._folder = Path(code.co_filename).parent
        self._known: list[FrameType] = []

    @contextmanager
    def noted(self, lines: list[Line]) -> Iterator[None]:
        """Note them meanwhile: file, first line and name."""

        def watch(frame: FrameType, event: str, _: object) -> None:
            code = frame.f_code
            if event != "call" or Path(code.co_filename).parent != self._folder or code.co_name.startswith("<"):
                return
            if not any(frame is one for one in self._known):
                self._known.append(frame)
                lines.append((code.co_filename, code.co_firstlineno, code.co_name))

        sys.setprofile(watch)
        try:
            yield
        finally:
            sys.setprofile(None)
