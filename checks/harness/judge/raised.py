"""What the learner's code raised in a cell, as an exception that the judge can raise."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from checks.harness.cell.wire import Broken
from checks.harness.errors import LearnerError

Frame = tuple[str, int, str, str]
"""File, line, function, and module, as a cell gives them."""

_ENDING = (KeyboardInterrupt, GeneratorExit)
"""Builtin exceptions that would do more in the judge than fail a checkpoint."""

_MOST_LINES = 10**6


class FromCell(BaseException):
    """Base of every exception that the learner's code raised in a cell, beside the builtin one that it was below."""

    called: object = None
    """Of a call that does not fit its function: what `SourceLines.where_defined` finds that function by."""


class Place:
    """Stands for a function or a class that is defined in that file, at that line."""

    def __init__(self, path: str, line: int) -> None:
        self.__code__ = SimpleNamespace(co_filename=path, co_firstlineno=line)


@dataclass(frozen=True, slots=True)
class Described:
    """An exception, as a cell describes it."""

    type: str
    bases: list[str]
    """The names of the builtin classes that it is below, the nearest first."""
    text: str
    said: str
    breakpoint: bool
    frames: list[Frame]
    attributes: dict[str, str | int]
    names: list[str]
    """Of an AttributeError: what the object has instead; its fields, of a pydantic model; whether it is a module."""
    fields: list[str]
    of_module: bool
    key: str | None
    """Of a KeyError: the key that was missed, if it is text, and the dicts that the innermost frame has, by name."""
    held: dict[str, list[str]]
    called: tuple[str, int] | None
    cause: list[Described] = field(default_factory=list)
    inner: list[Described] = field(default_factory=list)


_DESCRIBED = TypeAdapter(Described)


def raised(data: object, tree: Path) -> BaseException:
    """The exception that a cell describes: below the same builtin class, with the learner's frames as its traceback.

    `tree` holds the learner's files. Raises `Broken` where the data describe none.
    """
    try:
        described = _DESCRIBED.validate_python(data, extra="forbid")
    except (ValidationError, RecursionError) as error:
        raise Broken("what should be an exception is none") from error
    return _exception(described, tree)


def _exception(described: Described, tree: Path) -> BaseException:
    if described.breakpoint:
        try:
            sys.breakpointhook()
        except LearnerError as stopped:
            return stopped.with_traceback(_traceback(described, tree))
    error: BaseException = _without_frames(described, [_exception(one, tree) for one in described.inner])
    for one in described.cause:
        error.__cause__ = _exception(one, tree)
    return error.with_traceback(_traceback(described, tree))


def _without_frames(described: Described, inner: Sequence[BaseException]) -> Any:
    def init(self: BaseException, *_: object) -> None:  # some builtin classes want certain arguments
        self.args = (described.text if described.key is None else described.key,)

    base = _builtin(described.bases)
    words = {"__init__": init, "__str__": lambda _: described.text, "__repr__": lambda _: described.said}
    args = (described.text, inner) if issubclass(base, BaseExceptionGroup) else (described.text,)
    try:
        made: Any = type(described.type, (FromCell, base), words)(*args)
    except (TypeError, ValueError) as error:  # a group of nothing, a name that is none
        raise Broken("what should be an exception is none") from error
    for name, value in described.attributes.items():
        if isinstance(getattr(base, name, None), type(ImportError.name)):  # one that this builtin class has, too
            setattr(made, name, value)
    if isinstance(made, AttributeError):
        has = {"__dir__": lambda _: described.names, "model_fields": dict.fromkeys(described.fields)}
        made.obj = type("module", (ModuleType,), has)("module") if described.of_module else type("object", (), has)()
    if described.called:
        made.called = Place(*described.called)
    return made


def _builtin(names: Sequence[str]) -> type[BaseException]:
    """The first of these that is a builtin exception."""
    for name in names:
        found = getattr(builtins, name, None)
        if isinstance(found, type) and issubclass(found, BaseException) and not issubclass(found, _ENDING):
            return found
    return BaseException


def _traceback(described: Described, tree: Path) -> TracebackType | None:
    """A traceback whose frames say that they are these: what reads tracebacks finds the learner's lines in it.

    No line of the learner's runs for it. Files beside theirs get no name that anything could be read from.
    """
    inner: TracebackType | None = None
    held: dict[str, Any] = {name: dict.fromkeys(keys) for name, keys in described.held.items()}
    for path, line, function, module in reversed(described.frames):
        if not 0 < line < _MOST_LINES or "\0" in path:
            continue
        name = path if Path(path).is_relative_to(tree) else f"<{path}>"
        here: TracebackType | None = None
        code = compile("raise error", name, "exec").replace(co_name=function, co_firstlineno=line)
        try:
            exec(code, held | {"__name__": module, "__builtins__": {}}, {"error": FromCell})
        except FromCell as error:
            here = error.__traceback__
        if here and here.tb_next:  # the first frame is this function's
            here.tb_next.tb_next = inner
            inner, held = here.tb_next, {}  # what the innermost frame has is no other frame's
    return inner
