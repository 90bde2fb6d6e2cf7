"""A cell, as the judge has it: asks for modules, calls and attributes of the learner's, and takes data for answers."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from checks.harness.cell.wire import Broken, decode, encode, handle, record
from checks.harness.errors import CellEnded
from checks.harness.judge.handles import GIVEN, CellModule, Handle, given, missing, records
from checks.harness.judge.raised import Place, raised
from checks.harness.judge.start import Started
from checks.harness.processes.process_group import end_tree
from checks.harness.workspace import Workspace

FORGED = "your code wrote something else in the place of an answer"

_MOST_TOGETHER = 128
_MOST_KEPT = 1 << 26
"""Bytes that may come while something is sent: a flood ends the cell."""
_STACKS_SECONDS, _LOOK = 1.0, 0.02
_TURN = 0.5


def how_it_ended(exit_code: int | None) -> str:
    """The end of a process that ran the learner's code, in words."""
    if exit_code is None:
        return "the process that ran your code closed its connection to the lab"
    if exit_code < 0:
        return f"the process that ran your code was killed (signal {-exit_code})"
    return f"your code ended its own process with exit code {exit_code} (os._exit?)"


class Cell:
    """The learner's code, in a process of its own. What it raises is raised here; a hang is for the caller's deadline.

    Raises `CellEnded` once the process has ended, or has sent what is no answer to the question: then it is killed.
    """

    def __init__(self, started: Started, workspace: Workspace, stacks: Path) -> None:
        self._process, self._wire = started, started.wire
        self._workspace, self._stacks = workspace, stacks
        self._asked = 0
        self._reply: dict[str, Any] | None = None
        self._kept: deque[dict[str, Any]] = deque()
        """What has come while something was sent."""
        self._kept_from = 0
        """How many bytes had come before all of that."""
        self._events: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._over: CellEnded | None = None
        """Why nothing can be asked any more."""
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count()
        self._ask("begin", tree=str(workspace.tree), stacks=str(stacks))

    def load(self, name: str) -> ModuleType:
        """The learner's `lab.<name>`; raises what `Workspace.load` does. The records are the judge's own."""
        if name in GIVEN:
            return given(name)
        with self._workspace.loading(name) as full:
            reply = self._ask("load", module=full)
            match self._decoded(reply.get("value")):
                case {"module": Handle() as module, "defined": dict(defined)}:
                    path = self._workspace.tree / "lab" / f"{name}.py"
                    return CellModule(full, str(path), module, defined)
            raise self._forged()

    def call(self, number: int, calls: Sequence[tuple[Any, ...]], named: dict[str, Any]) -> Iterator[Any]:
        """Call a thing once for each tuple of arguments: what it returns, or raises.

        Lists and dicts among the arguments are then what the call has made of them. The first calls have messages of
        their own, later ones share them: after a wrong answer not many more calls have been made.
        """
        keywords = {key: encode(arg, _theirs) for key, arg in named.items()}
        done, together = 0, 1
        while done < len(calls):
            chunk = calls[done : done + together]
            sent = [[encode(arg, _theirs) for arg in args] for args in chunk]
            yield from self._results(self._ask("call", of=number, calls=sent, named=keywords), chunk)
            done, together = done + together, min(2 * together, _MOST_TOGETHER)

    def _results(self, reply: dict[str, Any], chunk: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        match reply:
            case {"values": list(values), "after": list(after)} if len(values) == len(after):
                pass
            case _:
                raise self._forged()
        if len(values) > len(chunk) or (len(values) < len(chunk)) != ("raised" in reply):
            raise self._forged()
        for args, value, changes in zip(chunk, values, after, strict=False):
            if type(changes) is not dict:
                raise self._forged()
            for place, now in changes.items():
                self._change(args, place, self._decoded(now))
            yield self._decoded(value)
        if "raised" in reply:
            raise self.raised(reply["raised"])

    def get(self, number: int, name: str, owner: object) -> Any:
        """An attribute of a thing."""
        reply = self._ask("get", of=number, name=name)
        if "missing" not in reply:
            return self._decoded(reply.get("value"))
        match self._decoded(reply["missing"]):
            case {"text": str(text), "holder": str(holder), "module": str(module), "defined": dict(defined)}:
                raise missing(name, owner, text, holder, module, defined)
        raise self._forged()

    def say(self, number: int) -> str:
        """The `repr` of a thing."""
        return str(self._ask("say", of=number).get("value"))

    def wait_for(self, number: int) -> Any:
        """What awaiting a thing gives."""
        return self._decoded(self._ask("await", of=number).get("value"))

    def play(self, batcher: Handle, scene: dict[str, Any]) -> Any:
        """What is reported of a scene with the learner's `Batcher`."""
        return self.ask("play", of=batcher._number, scene=scene)

    def place(self, number: int) -> Place | None:
        """Where a thing is defined."""
        return self.defined(self._ask("place", of=number).get("value"))

    @staticmethod
    def defined(told: object) -> Place | None:
        """Where something is defined, as a cell tells it."""
        match told:
            case [str(path), int(line), str(name)]:
                return Place(path, line, name)
        return None

    def where_it_is(self) -> str | None:
        """The learner's line that runs in there at this moment, whether it gives way to others or not."""
        if not hasattr(signal, "SIGUSR1"):
            return None
        with contextlib.suppress(OSError):
            os.kill(self._process.pid, signal.SIGUSR1)
            end = time.monotonic() + _STACKS_SECONDS
            while time.monotonic() < end:
                time.sleep(_LOOK)
                if text := self._stacks.read_text(errors="replace"):
                    return self._workspace.where_printed(text, innermost_last=False)
        return None

    def end(self) -> None:
        """Kill it, and whatever it has started."""
        if self._over is None:
            self._over = CellEnded("the process that ran your code has been ended")
            end_tree(self._process.pid)
            self._wire.close()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def on(self, event: str, work: Callable[[dict[str, Any]], None]) -> None:
        """Call this with each event of that name. What does not have its form ends the cell."""
        self._events[event] = work

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Call this so much later, in `turn`."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), work))

    @property
    def timers(self) -> int:
        """How many of them are not due yet."""
        return len(self._timers)

    def tell(self, what: str, **message: Any) -> None:
        """Tell it something that has no reply."""
        self._send({"tell": what, **message})

    def series(self) -> int:
        """A number that none before had."""
        return next(self._numbers)

    def reference(self, seconds: float) -> Any:
        """A model of the lab's own in there."""
        return self.ask("reference", seconds=seconds)

    def ask(self, do: str, **message: Any) -> Any:
        """Ask it to do something: the data that come back."""
        return self._decoded(self._ask(do, **message).get("value"))

    def turn(self, seconds: float) -> bool:
        """Handle the events that come within so many seconds, and run what is due; whether anything happened.

        It returns after the first of them that came with none behind it.
        """
        happened, end = self._run_due(), time.monotonic() + seconds
        while True:
            soon = self._timers[0][0] if self._timers else end
            left = 0.0 if happened else max(0.0, min(end, soon) - time.monotonic())
            if self._kept or self._wire.ready(left):
                self._receive()
                happened = True
            elif self._run_due():
                happened = True
            elif happened or time.monotonic() >= end:
                return happened

    def _run_due(self) -> bool:
        due = False
        while self._timers and self._timers[0][0] <= time.monotonic():
            due = True
            heapq.heappop(self._timers)[2]()
        return due

    def _ask(self, do: str, **message: Any) -> dict[str, Any]:
        """Its reply to a message."""
        self._asked += 1
        self._send({"number": self._asked, "do": do, **message})
        while self._reply is None:
            if self._timers:
                self.turn(_TURN)
            else:
                self._receive()
        reply, self._reply = self._reply, None
        if "raised" in reply and "values" not in reply:
            raise self.raised(reply["raised"])
        return reply

    def _send(self, message: dict[str, Any]) -> None:
        if self._over:
            raise self._over
        try:
            self._wire.send(message, meanwhile=self._keep)
        except OSError:
            raise self._ended() from None

    def _keep(self) -> None:
        """Receive a message for later."""
        if not self._kept:
            self._kept_from = self._wire.received
        self._kept.append(self._next())
        if self._wire.received - self._kept_from > _MOST_KEPT:
            raise self._forged()

    def _next(self) -> dict[str, Any]:
        """Wait for the next message."""
        try:
            message = self._wire.receive()
        except Broken as broken:
            raise self._forged() from broken
        if message is None:
            raise self._ended()
        return message

    def _receive(self) -> None:
        """Take the next message: the reply that is waited for, or an event. Anything else ends the cell."""
        message = self._kept.popleft() if self._kept else self._next()
        if type(message.get("to")) is int and message["to"] == self._asked and self._reply is None:
            self._reply = message
        elif "to" not in message and (work := self._events.get(str(message.get("event")))):
            try:
                work(message)
            except (Broken, LookupError, TypeError, ValueError) as error:
                raise self._forged() from error
        else:
            raise self._forged()

    def _ended(self) -> CellEnded:
        code = self._process.exit_code()
        self.end()
        self._over = CellEnded(how_it_ended(code))
        return self._over

    def raised(self, told: object) -> BaseException:
        """The exception that it tells of."""
        try:
            return raised(told, self._workspace.tree)
        except Broken as broken:
            raise self._forged() from broken

    def _decoded(self, data: object) -> Any:
        try:
            return decode(data, self._found)
        except Broken as error:
            raise self._forged() from error

    def _found(self, tag: str, content: Any) -> object:
        match tag, content:
            case "h", {"number": int(number), "module": str(module), "awaited": awaited, "async": is_async}:
                made = Handle(self, number, module, awaited=awaited is True, is_async=is_async is True)
                return self._handles.setdefault(number, made)
            case "r", [str(name), dict(fields)]:
                kind = vars(records()).get(name)
                if isinstance(kind, type) and kind.__module__ == records().__name__:
                    return kind(**fields)
        raise Broken(f"a tag {tag!r} with another value")

    def _change(self, args: tuple[Any, ...], place: str, now: object) -> None:
        arg = args[int(place)] if place.isdecimal() and int(place) < len(args) else None
        if isinstance(arg, list) and isinstance(now, list):
            arg[:] = now
        elif isinstance(arg, dict) and isinstance(now, dict):
            arg.clear()
            arg.update(now)
        else:
            raise self._forged()

    def _forged(self) -> CellEnded:
        self.end()
        self._over = CellEnded(FORGED)
        return self._over


def _theirs(value: object) -> object:
    """What goes into a cell in the place of a handle or a record."""
    if isinstance(value, Handle):
        return handle({"number": value._number})
    if type(value).__module__ == records().__name__:
        return record(type(value).__name__, {name: getattr(value, name) for name in type(value).__dataclass_fields__})  # type: ignore[attr-defined]
    raise TypeError(f"{value!r} does not go into a cell")
