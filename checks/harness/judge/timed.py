"""Calls of a learner's method that are timed here: side by side, by this process's clock."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from checks.harness.cell import waits
from checks.harness.cell.waits import Calls, Reference, Waited
from checks.harness.cell.wire import decode, encode
from checks.harness.judge.cost import computed
from checks.harness.judge.handles import Handle
from checks.harness.source_lines import SourceLines

Ended = tuple[int, BaseException | None, Any]
"""The number of a call that has ended, what it raised, and what it returned."""

TURN = 0.5
"""Seconds of one turn of a wait, which has no end of its own: a checkpoint has one."""


class Timed(NamedTuple):
    """How long each call took, in seconds, from its start to its end as they were seen here, and what it returned.

    `together`: how long all of them took.
    """

    seconds: list[float]
    together: float
    answers: list[Any]


def explained(method: Any, calls: Sequence[tuple[float, Any]], lines: SourceLines) -> Waited:
    """What a virtual clock says of calls that are awaited: see `waits.awaited`. Out of a cell it is advice."""
    if not isinstance(method, Handle):
        return waits.awaited(method, calls, lines)
    seconds, forgotten, elsewhere, on_loop, where = method._cell.ask(
        "explain", of=method._number, calls=encode([[start, argument] for start, argument in calls], str)
    )
    times = [float(one) for one in seconds]
    return Waited(times, str(forgotten), elsewhere is True, on_loop is True, where and str(where))


def side_by_side(
    method: Any,
    calls: Sequence[tuple[float, Any]],
    *,
    awaits: bool,
    meanwhile: tuple[float, Callable[[], None]] | None = None,
) -> Timed:
    """Make calls of a method, each from its own start on: (seconds from now, its argument).

    They are awaited on one loop, or each has a thread. What one of them raises is raised. `meanwhile` is (seconds from
    now, what to do then).
    """
    make = _InCell(method, awaits=awaits) if isinstance(method, Handle) else _Here(method, awaits=awaits)
    started, begun, ended = time.perf_counter(), dict[int, float](), dict[int, float]()
    answers: dict[int, Any] = {}
    waiting = sorted(enumerate(calls), key=lambda one: one[1][0])
    while len(ended) < len(calls):
        now = time.perf_counter() - started
        while waiting and waiting[0][1][0] <= now:
            number, (_, argument) = waiting.pop(0)
            begun[number] = time.perf_counter()
            make.begin(number, argument)
        if meanwhile and now >= meanwhile[0]:
            meanwhile[1]()
            meanwhile = None
        due = [waiting[0][1][0] - now] if waiting else []
        due += [meanwhile[0] - now] if meanwhile else []
        for number, error, answer in make.ended(min([TURN, *(max(0.0, one) for one in due)])):
            if error is not None:
                raise error
            ended[number], answers[number] = time.perf_counter(), answer
    seconds = [ended[one] - begun[one] for one in range(len(calls))]
    return Timed(seconds, time.perf_counter() - started, [answers[one] for one in range(len(calls))])


class _InCell:
    """Calls in a cell; word of each end comes by itself."""

    def __init__(self, method: Handle, *, awaits: bool) -> None:
        self._cell, self._method, self._awaits = method._cell, method, awaits
        self._ended: list[Ended] = []
        self._series = self._cell.series()
        self._cell.on("returned", self._returned)

    def begin(self, number: int, argument: Any) -> None:
        """Begin one."""
        argument = encode(argument, str)
        call = [self._series, number]
        self._cell.tell("call", of=self._method._number, call=call, argument=argument, awaits=self._awaits)

    def ended(self, seconds: float) -> list[Ended]:
        """Those that have ended, within so many seconds."""
        self._cell.turn(seconds)
        found, self._ended = self._ended, []
        return found

    def _returned(self, told: dict[str, Any]) -> None:
        series, number = told["call"]
        if series == self._series:
            error = self._cell.raised(told["raised"]) if told["raised"] is not None else None
            self._ended.append((int(number), error, decode(told["answer"], lambda *_: None)))


class _Here:
    """Calls in this process."""

    def __init__(self, method: Callable[..., Any], *, awaits: bool) -> None:
        self._method, self._calls, self._awaits = method, Calls(), awaits
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def begin(self, number: int, argument: Any) -> None:
        """Begin one."""

        def done(error: BaseException | None, answer: Any) -> None:
            self._ended.put((number, error, answer))

        self._calls.begin(self._method, argument, done, awaits=self._awaits)

    def ended(self, seconds: float) -> list[Ended]:
        """Those that have ended, within so many seconds."""
        try:
            return [self._ended.get(timeout=seconds)]
        except queue.Empty:
            return []


def reference(like: Any, seconds: float) -> Any:
    """A model of the lab's own, in the process where the class `like` is."""
    return like._cell.reference(seconds) if isinstance(like, Handle) else Reference(seconds)


def busiest_line(method: Any, lines: SourceLines) -> str | None:
    """The learner's line at which most threads are now."""
    if not isinstance(method, Handle):
        return waits.busiest_line(lines)
    line = method._cell.ask("busiest")
    return line if type(line) is str else None


def took_and_cost(method: Any, work: Callable[[], object]) -> tuple[float, float]:
    """How long some calls of a method took, and the CPU time of the process where it is meanwhile, in seconds."""
    started, burnt = time.perf_counter(), computed(method)
    work()
    return time.perf_counter() - started, computed(method) - burnt
