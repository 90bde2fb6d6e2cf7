"""What the learner's code raised in a cell, as an exception that the judge can raise."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from checks.harness.cell.wire import Broken
from checks.harness.errors import BrokenOff, Failure, LearnerError, NoAnswer, Unanswered

Frame = tuple[str, int, str, str]
"""File, line, function, and module, as a cell gives them."""

_ENDING = (KeyboardInterrupt, GeneratorExit)
"""Builtin exceptions that would do more in the judge than fail a checkpoint."""

_MOST_LINES = 10**6


class FromCell(BaseException):
    """Base of every exception that the learner's code raised in a cell, beside the builtin one that it was below."""

    has_frames = True
    """Whether any frame stands between the call of the learner's function and where this was raised."""
    called: object = None
    """Of a call that does not fit its function: what `SourceLines.where_defined` finds that function by."""
    not_awaited: str | None = None
    """The learner's line that lacks an `await` or a decorator, if that is what it is about."""
    hint: str = ""
    """What mends it: only the cell knows which names and keys there are."""


class Place:
    """Stands for a function or a class that is defined in that file, at that line."""

    def __init__(self, path: str, line: int, name: str = "") -> None:
        self.__code__ = SimpleNamespace(co_filename=path, co_firstlineno=line, co_name=name)
        self.__name__ = name


@dataclass(frozen=True, slots=True)
class Ours:
    """What an error says that the lab's part of a cell has raised: words about a failure, which pass nothing."""

    kind: Literal["LearnerError", "NoAnswer", "BrokenOff", "Unanswered"]
    seen: str
    wanted: str
    hint: str
    where: str | None
    explains_itself: bool
    ended: str

    def error(self) -> LearnerError:
        """The same error."""
        made: LearnerError
        match self.kind:
            case "BrokenOff":
                made = BrokenOff(self.seen, self.where, self.ended)
            case "NoAnswer":
                made = NoAnswer("", "", self.where)
            case "Unanswered":
                made = Unanswered(self.seen)
            case _:
                made = LearnerError(self.seen, explains_itself=self.explains_itself)
        made.failure = Failure(self.seen, self.wanted, self.hint, self.where)
        return made


@dataclass(frozen=True, slots=True)
class Described:
    """An exception, as a cell describes it."""

    type: str
    bases: list[str]
    """The names of the builtin classes that it is below, the nearest first."""
    text: str
    said: str
    breakpoint: bool
    ours: Ours | None
    not_awaited: str | None
    frames: list[Frame]
    attributes: dict[str, str | int]
    hint: str
    key: str | None
    """Of a KeyError: the key that was missed, if it is text."""
    called: tuple[str, int, str] | None
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
    error: Any
    if described.ours:
        error = described.ours.error()
        error.not_awaited = described.not_awaited
    else:
        error = _without_frames(described, [_exception(one, tree) for one in described.inner])
    for one in described.cause:
        error.__cause__ = _exception(one, tree)
    made: BaseException = error.with_traceback(_traceback(described, tree))
    return made


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
    made.not_awaited, made.hint = described.not_awaited, described.hint
    if described.called:
        made.called = Place(*described.called)
    made.has_frames = bool(described.frames)
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
    for path, line, function, module in reversed(described.frames):
        if not 0 < line < _MOST_LINES or "\0" in path:
            continue
        name = path if Path(path).is_relative_to(tree) else f"<{path}>"
        here: TracebackType | None = None
        code = compile("raise error", name, "exec").replace(co_name=function, co_firstlineno=line)
        try:
            exec(code, {"__name__": module, "__builtins__": {}}, {"error": FromCell})
        except FromCell as error:
            here = error.__traceback__
        if here and here.tb_next:  # the first frame is this function's
            here.tb_next.tb_next = inner
            inner = here.tb_next
    return inner
