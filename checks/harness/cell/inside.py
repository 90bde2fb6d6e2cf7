"""The inside of a cell: the learner's code, in an interpreter of its own. It does what the judge asks, one by one.

A message that has a number says what to `do`; its reply has the same number, and `value` or `values`, `missing` or
`raised`. One that says what to `tell` has no reply. An `event` comes unasked: what became of a request, a call of the
model. Whatever this file says is the learner's word: their code can change everything in here.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import dataclasses
import faulthandler
import importlib
import inspect
import os
import queue
import re
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from checks.harness.cell import made, middlewares, turns
from checks.harness.cell.apps import Apps
from checks.harness.cell.batches import play
from checks.harness.cell.forks import print_by_lines
from checks.harness.cell.repeated import Ring, repeat
from checks.harness.cell.visitors import Visitors
from checks.harness.cell.waits import Calls, Reference, awaited, busiest_line
from checks.harness.cell.wall_clock import WallClock
from checks.harness.cell.wire import Broken, Wire, decode, encode, handle, record
from checks.harness.errors import BrokenOff, LearnerError, NoAnswer, Unanswered
from checks.harness.missing_await import where_not_awaited
from checks.harness.plain_words import hint_for
from checks.harness.source_lines import SourceLines

RECORDS = "lab.records"
"""The given module whose records both sides have."""

MOST_FRAMES, MOST_TEXT = 60, 20_000
"""What is told of an exception at most: its innermost frames, characters of what it says."""

OURS = (NoAnswer, BrokenOff, Unanswered, LearnerError)
"""The lab's own errors that its part of a cell raises, the special ones first."""

BESIDE = {"middlewares": middlewares, "made": made, "turns": turns}
"""The lab's own modules whose functions the judge calls beside the learner's code."""

_MUTABLE = (list, dict)
_DATA: tuple[Any, ...] = (int, float, str, bytes, list, tuple, set, dict)
_DEEPEST_CAUSE = 5
_ATTRIBUTES = ("name", "msg", "filename", "lineno", "text", "code")
_CALLED = re.compile(r"([\w.<>]+)\(\) (?:got|missing|takes)")


class Breakpoint(BaseException):
    """`breakpoint()` was called, and nothing can stop in here."""


class _TooLarge:
    def __repr__(self) -> str:
        return "more than 8 MiB"


class Inside:
    """Answers the judge's messages."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._calls = Calls()
        self._visitors: Visitors
        self._apps = Apps(self._tell, self._described, _defined)
        self._things: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}

    def run(self) -> NoReturn:
        """Answer until the judge has ended."""
        threading.Thread(target=self._read, name="wire", daemon=True).start()
        while True:
            message = self._asked.get()
            try:
                reply = self._do(message)
            except BaseException as error:
                reply = {"raised": self._described(error)}
            with contextlib.suppress(Exception):  # a learner's code may have closed them
                sys.stdout.flush()
                sys.stderr.flush()
            to = message["number"]
            try:
                self._wire.send({"to": to, **reply})
            except Broken:  # too large for a message, and so for any checkpoint
                large = self._encoded(_TooLarge())
                number = len(reply.get("values", ()))
                self._wire.send({"to": to, "value": large, "values": [large] * number, "after": [{}] * number})

    def _read(self) -> None:
        code = 1
        try:
            while (message := self._wire.receive()) is not None:
                if "number" in message:
                    self._asked.put(message)
                elif message["tell"] == "call":
                    self._begin_call(message)
                else:
                    self._apps.told(message)
            code = 0
        finally:
            os._exit(code)  # nothing that their code has registered runs any more

    def _begin_call(self, message: dict[str, Any]) -> None:
        def done(error: BaseException | None, answer: Any) -> None:
            raised = None if error is None else self._described(error)
            data = encode(answer, str) if isinstance(answer, int | float) else None  # all else is looked at alone
            self._tell("returned", call=message["call"], raised=raised, answer=data)

        method, argument = self._things[message["of"]], decode(message["argument"], self._found)
        self._calls.begin(method, argument, done, awaits=message["awaits"])

    def _visited(
        self, visitor: int, how: str, status: int | None = None, body: bytes = b"", error: BaseException | None = None
    ) -> None:
        raised = None if error is None else self._described(error)
        self._tell("visitor", visitor=visitor, how=how, status=status, body=encode(body, str), raised=raised)

    def _tell(self, event: str, **more: Any) -> None:
        with contextlib.suppress(OSError):  # the judge has ended
            self._wire.send({"event": event, **more})

    def _do(self, message: dict[str, Any]) -> dict[str, Any]:
        match message["do"]:
            case "begin":
                return self._begin(message["tree"], message["stacks"])
            case "load":
                return {"value": self._module(importlib.import_module(message["module"]))}
            case "get":
                return self._get(self._things[message["of"]], message["name"])
            case "call":
                return self._call(self._things[message["of"]], message["calls"], message["named"])
            case "await":
                return {"value": self._encoded(asyncio.run(_awaited(self._things[message["of"]])))}
            case "say":
                return {"value": repr(self._things[message["of"]])[:MOST_TEXT]}
            case "play":
                return {"value": self._encoded(play(self._things[message["of"]], message["scene"], self._apps.lines))}
            case "explain":
                method, calls = self._things[message["of"]], decode(message["calls"], self._found)
                return {"value": self._encoded([*awaited(method, calls, self._apps.lines)])}
            case "busiest":
                return {"value": busiest_line(self._apps.lines)}
            case "reference":
                return {"value": self._encoded(Reference(message["seconds"]))}
            case "repeat":
                repeat(self._things[message["of"]], message["argument"], message["times"])
                return {"value": None}
            case "ring":
                return {"value": self._encoded(Ring(message["size"]))}
            case "visitors":
                self._visitors = Visitors(self._things[message["of"]], message["limits"], self._visited)
                return {"value": None}
            case "step":
                self._visitors.step(message["deeds"], message["seconds"])
                return {"value": None}
            case "start":
                return {"value": self._apps.asked(message | {"around": [self._things[n] for n in message["around"]]})}
            case "wall clock":
                clock = WallClock()
                clock.install(setattr)
                return {"value": self._encoded(clock)}
            case "beside":
                return {"value": self._encoded(BESIDE[message["helpers"]])}
            case "spy" | "create" | "lifespan" | "stop" | "app":
                return {"value": self._apps.asked(message)}
            case _:
                return {"value": _defined(self._things[message["of"]])}

    def _begin(self, tree: str, stacks: str) -> dict[str, Any]:
        """Take the learner's files for `lab`; from now on SIGUSR1 writes the stacks of all threads to that file."""
        sys.path.insert(0, tree)
        self._apps.lines = SourceLines(Path(tree))
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, open(stacks, "w"))  # noqa: SIM115  # as long as this process
        return {"value": None}

    def _module(self, module: ModuleType) -> Any:
        """A module, with what it defines itself."""
        theirs = {
            name: value
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        }
        return self._encoded({"module": module, "defined": theirs})

    def _get(self, thing: object, name: str) -> dict[str, Any]:
        try:
            return {"value": self._encoded(getattr(thing, name))}
        except AttributeError as error:
            if error.obj is not thing or error.name != name:
                raise
            return {"missing": self._encoded(_missing(thing, str(error)))}

    def _call(self, thing: Any, calls: list[list[Any]], named: dict[str, Any]) -> dict[str, Any]:
        """Call a thing once for each list of arguments, until a call raises; what each did to its lists and dicts."""
        values: list[Any] = []
        after: list[dict[str, Any]] = []
        for sent in calls:
            args, keywords = decode(sent, self._found), decode(named, self._found)
            try:
                got = thing(*args, **keywords)
            except BaseException as error:
                return {"values": values, "after": after, "raised": self._described(error)}
            changed = [(place, self._encoded(arg)) for place, arg in enumerate(args) if type(arg) in _MUTABLE]
            after.append({str(place): now for place, now in changed if now != sent[place]})
            values.append(self._encoded(got))
        return {"values": values, "after": after}

    # -- what goes over the wire

    def _encoded(self, value: object) -> Any:
        try:
            return encode(value, self._instead)
        except Broken:  # a list that holds itself, say
            return {"$": "h", "v": self._handle(value)}

    def _instead(self, value: object) -> object:
        kind = type(value)
        if kind.__module__ == RECORDS and dataclasses.is_dataclass(value):
            return record(kind.__name__, {one.name: getattr(value, one.name) for one in dataclasses.fields(value)})
        for data in _DATA:
            if isinstance(value, data):  # a subclass is sent as what it is made of: its `==` stays here
                return str.__str__(value) if isinstance(value, str) else data(value)
        return handle(self._handle(value))

    def _handle(self, value: object) -> dict[str, Any]:
        number = self._numbers.setdefault(id(value), len(self._numbers) + 1)
        self._things[number] = value  # it stays, so that no other thing gets its id
        owner = value if isinstance(value, type | ModuleType) or hasattr(value, "__qualname__") else type(value)
        kinds = {"awaited": inspect.isawaitable(value), "async": inspect.iscoroutinefunction(value)}
        return {"number": number, "module": str(getattr(owner, "__module__", "")), **kinds}

    def _found(self, tag: str, content: Any) -> object:
        if tag == "r":
            name, fields = content
            return getattr(importlib.import_module(RECORDS), name)(**fields)
        return self._things[content["number"]]

    def _described(self, error: BaseException, deep: int = 0) -> dict[str, Any]:
        """An exception in plain data."""
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        causes = [error.__cause__] if error.__cause__ is not None else []
        further = deep < _DEEPEST_CAUSE
        values = {name: getattr(error, name, None) for name in _ATTRIBUTES}
        return {
            "type": type(error).__name__,
            "bases": [one.__name__ for one in type(error).__mro__ if getattr(builtins, one.__name__, None) is one],
            "text": _text(str, error),
            "said": _text(repr, error),
            "breakpoint": type(error) is Breakpoint,
            "ours": _ours(error),
            "hint": _text(hint_for, error),
            "not_awaited": where_not_awaited(error, self._apps.lines),
            "frames": _frames(error),
            "attributes": {name: value for name, value in values.items() if type(value) in (str, int)},
            "key": error.args[0] if isinstance(error, KeyError) and list(map(type, error.args)) == [str] else None,
            "called": _called(str(error)) if isinstance(error, TypeError) else None,
            "cause": [self._described(one, deep + 1) for one in causes if further],
            "inner": [self._described(one, deep + 1) for one in inner[:10] if further],
        }


def run(reader: int, writer: int) -> None:
    """Be the inside of a cell, until the judge has ended. Never returns."""
    print_by_lines()
    sys.argv[:] = ["lab"]
    warnings.simplefilter("ignore")  # a warning of the learner's code is no failure
    sys.breakpointhook = _no_breakpoint
    try:
        Inside(Wire(reader, writer)).run()
    finally:
        os._exit(1)


async def _awaited(value: Any) -> Any:
    return await value


def _ours(error: BaseException) -> dict[str, Any] | None:
    """What an error says that the lab's part of a cell has raised."""
    kind = next((kind for kind in OURS if isinstance(error, kind)), None)
    if kind is None or not isinstance(error, LearnerError):
        return None
    ended = error.ended if isinstance(error, BrokenOff) else ""
    return {
        "kind": kind.__name__,
        **{name: getattr(error.failure, name) for name in ("seen", "wanted", "hint", "where")},
        "explains_itself": error.explains_itself,
        "ended": ended,
    }


def _no_breakpoint(*_: object, **__: object) -> None:
    raise Breakpoint


def _frames(error: BaseException) -> list[list[Any]]:
    """The innermost frames: file, line, function and module, from the outside in; none of this file's."""
    frames = [
        [frame.f_code.co_filename, line, frame.f_code.co_name, str(frame.f_globals.get("__name__", ""))]
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename != __file__
    ]
    return frames[-MOST_FRAMES:]


def _text(of: Any, error: BaseException) -> str:
    try:
        return str(of(error))[:MOST_TEXT]
    except Exception:
        return ""


def _missing(thing: object, said: str) -> dict[str, Any]:
    """What is said of a name that a thing does not have: its class, and what that defines."""
    holder = thing if isinstance(thing, type | ModuleType) else type(thing)
    module = thing.__name__ if isinstance(thing, ModuleType) else holder.__module__
    theirs = {name: value for name, value in vars(holder).items() if getattr(value, "__module__", None) == module}
    return {"text": said[:MOST_TEXT], "holder": holder.__name__, "module": str(module), "defined": theirs}


def _defined(thing: object) -> list[Any] | None:
    """File, first line and name of a function or a class, decorators included."""
    try:
        code = getattr(inspect.unwrap(thing), "__code__", None)  # type: ignore[arg-type]  # what has none raises
        if code:
            return [code.co_filename, code.co_firstlineno, code.co_name]
        path = inspect.getsourcefile(thing)  # type: ignore[arg-type]
        return [path, inspect.getsourcelines(thing)[1], "<module>"] if path else None  # type: ignore[arg-type]
    except (OSError, TypeError, ValueError):
        return None


def _called(said: str) -> list[Any] | None:
    """Where the function is defined that Python names in an error about its arguments, if only one module has it."""
    if not (called := _CALLED.match(said)):
        return None
    found = []
    for module in [module for name, module in sys.modules.items() if name.startswith("lab.")]:
        thing: object = module
        for part in called[1].split("."):
            thing = getattr(thing, part, None)
        if thing is not None and getattr(thing, "__module__", None) == module.__name__:
            found.append(_defined(thing))
    return found[0] if len(found) == 1 else None
