"""Notes where in the learner's code a scene takes its course: lines for a card to point at. They decide nothing."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from checks.harness.source_lines import SourceLines
from checks.harness.syntax import shared, takes, tests, tree_of, uses

Data = dict[str, Any]

MOST = 2000
"""Timers, and instants, that are noted at most."""
_OURS = "checks.harness"
_WINDOW = 3
"""The place of the window among the parameters of `Batcher.__init__`."""


class Notes:
    """What a scene was seen to do, line by line: as it is played again for that alone, since it takes far longer.

    Attributes:
        calls: of each call of the model the line that `asked` for it, the one where its task was `begun`, the outermost
            line of that stack (`path`), the condition that was `tested` last before, and where items were `taken` last.
        ended: of each caller where the exception was raised that it got, or where it was cancelled.
        handed: the line that set the outcome of a future last, when each caller ended.
    """

    def __init__(self, lines: SourceLines, batcher: Callable[..., Any]) -> None:
        self._lines, self._batcher = lines, batcher
        self.calls: list[Data] = []
        self.ended: dict[str, str] = {}
        self.handed: dict[str, str] = {}
        self._timers: list[list[Any]] = []
        self._tested: dict[float, tuple[CodeType, int]] = {}
        self._read: dict[float, str] = {}
        self._test: tuple[CodeType, int] | None = None
        self._take: tuple[CodeType, int] | None = None
        self._set: str | None = None
        self._unraised: dict[int, BaseException] = {}
        self._made: dict[asyncio.Task[Any], tuple[str | None, str | None, float]] = {}
        self._theirs: dict[CodeType, bool] = {}
        self._marked: dict[str, tuple[set[int], set[int]]] = {}
        self._now: Callable[[], float] = lambda: 0.0

    @contextlib.contextmanager
    def over(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Note what the code on this loop does in this block, on this thread; not under a debugger."""
        own: Any = loop
        before, make = {name: getattr(loop, name) for name in ("call_at", "time")}, loop.get_task_factory()
        self._now = before["time"]

        def call_at(when: float, *args: Any, **named: Any) -> asyncio.TimerHandle:
            if len(self._timers) < MOST and (line := self._nearest(sys._getframe(1))):
                self._timers.append([self._now(), when, line])
                self._read.setdefault(self._now(), line)
            handle: asyncio.TimerHandle = before["call_at"](when, *args, **named)
            return handle

        def read() -> float:
            now = float(self._now())
            if now not in self._read and len(self._read) < MOST and (line := self._nearest(sys._getframe(1))):
                self._read[now] = line
            return now

        def factory(of: asyncio.AbstractEventLoop, work: Any, **named: Any) -> Any:
            task: Any = make(of, work, **named) if make else asyncio.Task(work, loop=of, **named)
            found = [*self._all(sys._getframe(1))]
            self._made[task] = (found[0] if found else None, found[-1] if found else None, self._now())
            return task

        own.call_at, own.time = call_at, read
        own.create_future = lambda: _Future(self._hands, loop=loop)
        loop.set_task_factory(factory)
        traced = sys.gettrace() is None
        if traced:
            sys.settrace(self._called)
        try:
            yield
        finally:
            if traced:
                sys.settrace(None)
            loop.set_task_factory(make)
            for name in (*before, "create_future"):
                delattr(loop, name)

    def model_is_called(self) -> None:
        """Note how it came to a call of the model, which begins now."""
        task: Any = asyncio.current_task()
        begun, path, at = self._made.get(task, (None, None, -1.0))
        asked = self._nearest(sys._getframe(2)) or begun
        fresh = at == self._now()
        self.calls.append(
            {
                "asked": asked,
                "begun": (begun if fresh else None) or asked,
                "path": (path if fresh else None) or asked,
                "tested": self._named(self._test),
                "taken": self._named(self._take),
            }
        )

    def caller_ended(self, number: int, error: BaseException | None) -> None:
        """Note where the wait of a caller ended."""
        if error and id(error) not in self._unraised and (line := self._lines.where_raised(error.__traceback__)):
            self.ended[str(number)] = line
        if self._set:
            self.handed[str(number)] = self._set

    def told(self, unseen: list[BaseException], left: list[asyncio.Task[Any]]) -> Data:
        """All of it, as data. `unseen` was raised and no caller got it, `left` are the tasks that have not ended."""
        raised = (self._lines.where_raised(one.__traceback__) for one in unseen)
        path = inspect.getsourcefile(self._batcher) or ""
        tree, name = tree_of(path), self._batcher.__name__
        window = uses(tree, name, _WINDOW)
        lines = {"computed": window.computed, "tested": window.tested, "unused": window.unused}
        lines["shared"] = shared(tree, name)
        return {
            "calls": [*self.calls],
            "ended": dict(self.ended),  # copies: when the loop ends, those who still wait are cancelled
            "handed": dict(self.handed),
            "timers": [*self._timers],
            "tested": [[at, line] for at, one in self._tested.items() if (line := self._named(one))],
            "read": [[at, line] for at, line in self._read.items()],
            "unseen": next(filter(None, raised), None),
            "left": [line for task in left if (line := self._made.get(task, (None,))[0])],
            "window": {use: line and self._lines.where_line(Path(path), line) for use, line in lines.items()},
        }

    def _hands(self, frame: FrameType, error: object = None) -> None:
        self._set = self._lines.where(frame.f_code, frame.f_lineno) or self._set
        if isinstance(error, BaseException) and error.__traceback__ is None:
            self._unraised[id(error)] = error

    def _all(self, frame: FrameType | None) -> Iterator[str]:
        """The learner's lines of this stack, from the inside out, up to the scene that called them."""
        while frame is not None and not frame.f_globals.get("__name__", "").startswith(_OURS):
            if self._is_theirs(frame.f_code) and (line := self._lines.where(frame.f_code, frame.f_lineno)):
                yield line
            frame = frame.f_back

    def _nearest(self, frame: FrameType | None) -> str | None:
        return next(self._all(frame), None)

    def _is_theirs(self, code: CodeType) -> bool:
        if code not in self._theirs:
            self._theirs[code] = self._lines.where(code, code.co_firstlineno) is not None
        return self._theirs[code]

    def _named(self, place: tuple[CodeType, int] | None) -> str | None:
        return self._lines.where(*place) if place else None

    def _called(self, frame: FrameType, _: str, __: object) -> Any:
        return self._goes_on if self._is_theirs(frame.f_code) else None

    def _goes_on(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            code, line = frame.f_code, frame.f_lineno
            if code.co_filename not in self._marked:
                tree = tree_of(code.co_filename)
                self._marked[code.co_filename] = tests(tree), takes(tree)
            conditions, taking = self._marked[code.co_filename]
            if line in conditions:
                self._test = code, line
                if len(self._tested) < MOST:
                    self._tested[self._now()] = code, line
            if line in taking:
                self._take = code, line
        return self._goes_on


class _Future(asyncio.Future[Any]):
    """A future that says from where its outcome is set."""

    def __init__(self, said: Callable[..., None], **named: Any) -> None:
        super().__init__(**named)
        self._said = said

    def set_result(self, result: Any) -> None:
        self._said(sys._getframe(1))
        super().set_result(result)

    def set_exception(self, exception: Any) -> None:
        self._said(sys._getframe(1), exception)
        super().set_exception(exception)
