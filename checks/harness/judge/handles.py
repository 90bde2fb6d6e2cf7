"""What stands in a checkpoint for the learner's functions, classes, objects and modules, which are in a cell."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, Protocol

from checks.harness import ROOT
from checks.harness.cell import middlewares
from checks.harness.judge.raised import Place

Data = Mapping[str, Any]


class Asked(Protocol):
    """What handles need of their cell."""

    @property
    def pid(self) -> int:
        """The id of its process."""

    def on(self, event: str, work: Callable[[dict[str, Any]], None]) -> None:
        """Call this with each event of that name."""

    def tell(self, what: str, **message: Any) -> None:
        """Tell it something that has no reply."""

    def turn(self, seconds: float) -> bool:
        """Handle the events that come within so many seconds."""

    def series(self) -> int:
        """A number that none before had."""

    def raised(self, told: object) -> BaseException:
        """The exception that it tells of."""

    def call(self, number: int, calls: Sequence[tuple[Any, ...]], named: dict[str, Any]) -> Iterator[Any]:
        """Call a thing once for each tuple of arguments."""

    def get(self, number: int, name: str, owner: object) -> Any:
        """An attribute of a thing; `owner` stands for it in an AttributeError."""

    def say(self, number: int) -> str:
        """The `repr` of a thing."""

    def wait_for(self, number: int) -> Any:
        """What awaiting a thing gives."""

    def reference(self, seconds: float) -> Any:
        """A model of the lab's own in there."""

    def ask(self, do: str, **message: Any) -> Any:
        """Ask the cell to do something."""

    def place(self, number: int) -> Place | None:
        """Where a thing is defined."""


class Handle:
    """A thing in a cell. Calling it, and reading an attribute of it, happens in there.

    It is equal only to itself, and no number, list or dict, whatever it is in there: so nothing passes for data that
    did not come as data.
    """

    def __init__(self, cell: Asked, number: int, module: str, *, awaited: bool, is_async: bool) -> None:
        self._cell, self._number = cell, number
        self._awaited, self._is_async = awaited, is_async
        self.__module__ = module

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call it in there."""
        return next(self._cell.call(self._number, [args], named))

    def __getattr__(self, name: str) -> Any:
        if name == "__code__" and (place := self._cell.place(self._number)):
            return place.__code__  # as a function has it: `SourceLines.where_defined` reads it there
        if name.startswith("__"):
            raise AttributeError(name)
        return self._cell.get(self._number, name, None)

    def __repr__(self) -> str:
        return self._cell.say(self._number)


def attribute(thing: Any, name: str) -> Any:
    """An attribute of a thing whose name Python keeps for itself, such as `__call__`."""
    return thing._cell.get(thing._number, name, None) if isinstance(thing, Handle) else getattr(thing, name)


def beside(like: Any, helpers: ModuleType = middlewares) -> Any:
    """The functions of a module in `cell/`, in the process where that class or function of the learner's is."""
    if not isinstance(like, Handle):
        return helpers
    return like._cell.ask("beside", helpers=helpers.__name__.rpartition(".")[2])


def each(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """What a function returns for each of these tuples of arguments, in their order, or raises.

    A function in a cell gets them in a few messages. Some calls are made before their results are asked for.
    """
    if isinstance(function, Handle):
        return function._cell.call(function._number, calls, {})
    return (function(*args) for args in calls)


class CellModule(ModuleType):
    """A module of the learner's. What it defines itself is there at once, other names are asked for."""

    def __init__(self, name: str, path: str, handle: Handle, defined: Data) -> None:
        super().__init__(name)
        self.__file__ = path
        self.__dict__.update({key: value for key, value in defined.items() if not key.startswith("_")})
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._handle._cell.get(self._handle._number, name, self)


def missing(name: str, owner: object, text: str, holder: str, module: str, defined: Data) -> AttributeError:
    """The exception for a name that a thing in a cell does not have, whose class `holder` defines these others."""
    if owner is None:
        names = {key: value for key, value in defined.items() if not key.startswith("__")}
        owner = type(holder, (), names | {"__module__": module})
    return AttributeError(text, name=name, obj=owner)


def awaitable(thing: object) -> bool:
    """Whether a thing can be awaited, as its cell says of a handle."""
    return thing._awaited if isinstance(thing, Handle) else inspect.isawaitable(thing)


def is_async(function: object) -> bool:
    """Whether a function is an `async def`, as its cell says of a handle."""
    return function._is_async if isinstance(function, Handle) else inspect.iscoroutinefunction(function)


def awaited(thing: Any) -> Any:
    """What awaiting a thing gives, or raises; a handle's is awaited in its cell."""

    async def wait() -> Any:
        return await thing

    return thing._cell.wait_for(thing._number) if isinstance(thing, Handle) else asyncio.run(wait())


GIVEN = ("records", "settings")
"""Modules of `lab` that both sides have: the judge takes its own, whatever a learner makes of theirs."""


@cache
def given(name: str) -> ModuleType:
    """The judge's own copy of one of them."""
    spec = importlib.util.spec_from_file_location(f"lab.{name}", ROOT / "lab" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records() -> ModuleType:
    """The judge's own lab/records.py."""
    return given("records")
