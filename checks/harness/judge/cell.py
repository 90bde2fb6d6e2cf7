"""A cell, as the judge has it: asks for modules, calls and attributes of the learner's, and takes data for answers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from checks.harness.cell.wire import Broken, decode, encode, handle, record
from checks.harness.errors import CellEnded
from checks.harness.judge.handles import CellModule, Handle, missing, records
from checks.harness.judge.raised import Place, raised
from checks.harness.judge.start import Started
from checks.harness.processes.process_group import end_tree
from checks.harness.workspace import Workspace

FORGED = "your code wrote something else in the place of an answer"

_MOST_TOGETHER = 128
_STACKS_SECONDS, _LOOK = 1.0, 0.02


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
        self._over = False
        self._handles: dict[int, Handle] = {}
        self._ask("begin", tree=str(workspace.tree), stacks=str(stacks))

    def load(self, name: str) -> ModuleType:
        """The learner's `lab.<name>`; raises what `Workspace.load` does. The records are the judge's own."""
        if name == "records":
            return records()
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
            raise self._raised(reply)

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

    def place(self, number: int) -> Place | None:
        """Where a thing is defined."""
        match self._ask("place", of=number).get("value"):
            case [str(path), int(line)]:
                return Place(path, line)
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
        if not self._over:
            self._over = True
            end_tree(self._process.pid)
            self._wire.close()

    def _ask(self, do: str, **message: Any) -> dict[str, Any]:
        """Its reply to a message."""
        self._asked += 1
        try:
            self._wire.send({"number": self._asked, "do": do, **message})
            reply = self._wire.receive()
        except OSError:
            reply = None
        except Broken as broken:
            raise self._forged() from broken
        if reply is None:
            code = self._process.exit_code()
            self.end()
            raise CellEnded(how_it_ended(code))
        if type(reply.get("to")) is not int or reply["to"] != self._asked:
            raise self._forged()
        if "raised" in reply and "values" not in reply:
            raise self._raised(reply)
        return reply

    def _raised(self, reply: dict[str, Any]) -> BaseException:
        try:
            return raised(reply["raised"], self._workspace.tree)
        except Broken as broken:
            raise self._forged() from broken

    def _decoded(self, data: object) -> Any:
        try:
            return decode(data, self._found)
        except Broken as error:
            raise self._forged() from error

    def _found(self, tag: str, content: Any) -> object:
        match tag, content:
            case "h", {"number": int(number), "module": str(module)}:
                return self._handles.setdefault(number, Handle(self, number, module))
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
        return CellEnded(FORGED)


def _theirs(value: object) -> object:
    """What goes into a cell in the place of a handle or a record."""
    if isinstance(value, Handle):
        return handle({"number": value._number})
    if type(value).__module__ == records().__name__:
        return record(type(value).__name__, {name: getattr(value, name) for name in type(value).__dataclass_fields__})  # type: ignore[attr-defined]
    raise TypeError(f"{value!r} does not go into a cell")
