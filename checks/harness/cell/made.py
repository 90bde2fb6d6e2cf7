"""Which of the learner's lines made what a function returned, and which constant of its module makes it wrong.

What is found out here explains: it names a line, and decides nothing.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from checks.harness.cell.stacks import Line, line_of
from checks.harness.source_lines import assigned
from checks.harness.syntax import tree_of

_PAUSES = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
"""Functions that are left without having returned."""

Returned = tuple[int, Line, object]
"""How deep a call was, its `return` line, and the value."""


def line_that_made(function: Callable[..., Any], *args: Any) -> Line | None:
    """The `return` that made what a call returns: that of the innermost function whose value was handed on as it is.

    Functions of the same folder alone; None where the call raises, or returns None.
    """
    code = _code(function)
    if code is None:
        return None
    folder, returned = Path(code.co_filename).parent, list[Returned]()
    deep = 0

    def watch(frame: FrameType, event: str, value: object) -> None:
        nonlocal deep
        if event == "call":
            deep += 1
        elif event == "return":
            own = frame.f_code
            if not own.co_flags & _PAUSES and own.co_name[0] != "<" and Path(own.co_filename).parent == folder:
                returned.append((deep, line_of(frame), value))
            deep -= 1

    with suppress(Exception):
        sys.setprofile(watch)
        try:
            function(*args)
        finally:
            sys.setprofile(None)
        return _innermost(returned)
    return None


def _innermost(returned: Sequence[Returned]) -> Line | None:
    """From the last return inwards, as long as the call before it has returned the very same thing."""
    at = next((n for n in reversed(range(len(returned)))), None)
    if at is None or returned[at][2] is None:
        return None
    while True:
        deep, line, value = returned[at]
        inside = at - 1
        while inside >= 0 and returned[inside][0] > deep + 1:
            inside -= 1
        if inside < 0 or returned[inside][0] != deep + 1 or returned[inside][2] is not value:
            return line
        at = inside


def constant_that_mends(
    function: Callable[..., Any], calls: Sequence[Sequence[Any]], wanted: Sequence[Any], right: float
) -> Line | None:
    """The line of the module's constant with which all calls would return what is wanted, if it were `right`."""
    code, names = _code(function), getattr(inspect.unwrap(function), "__globals__", {})
    if code is None:
        return None
    for name, line in assigned(tree_of(code.co_filename)).items():
        was = names.get(name)
        if type(was) not in (int, float) or was == right:
            continue
        names[name] = right
        try:
            with suppress(Exception):
                if [function(*args) for args in calls] == [*wanted]:
                    return code.co_filename, line, "<module>"
        finally:
            names[name] = was
    return None


def has_size(kind: Callable[[int], Any], size: int) -> bool:
    """Whether an object that is made for so many things holds that number, or something of that length."""
    with suppress(Exception):
        for value in vars(kind(size)).values():
            lengths = (value, getattr(value, "maxlen", None), len(value) if hasattr(value, "__len__") else None)
            if size in [one for one in lengths if type(one) is int]:
                return True
    return False


def _code(function: Any) -> CodeType | None:
    return getattr(inspect.unwrap(function), "__code__", None)
