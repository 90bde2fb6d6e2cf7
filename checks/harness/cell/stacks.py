"""Where the code of this process is: the frames of its threads, and of the tasks that wait."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from types import FrameType, FunctionType
from typing import Any

from checks.harness.source_lines import FRAMEWORK, SourceLines

Line = tuple[str, int, str]
"""File, line and function."""
Lines = list[Line]
"""The lines of a stack that called, the innermost first."""
_LOCKS = ("asyncio.locks", "anyio._core._synchronization")
_MOST_HELD = 1000
"""Things in a list of the learner's that are looked at, at most."""

Stack = list[tuple[FrameType, int]]
"""Frames and their lines, from the outside in."""


def stacks(first: int | None = None) -> Iterator[Stack]:
    """The stack of the thread `first`, then of each waiting task, then of the other threads but the caller's."""
    threads = sys._current_frames()
    mine = threading.get_ident()
    if first in threads:
        yield stack_of(threads.pop(first))
    for task in [thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task)]:
        yield suspended(task.get_coro())
    for ident, frame in threads.items():
        if ident != mine:
            yield stack_of(frame)


def stack_of(frame: FrameType) -> Stack:
    """The stack that ends with this frame. An instruction may belong to no line: then the function's first one."""
    frames = [(one, line or one.f_code.co_firstlineno) for one, line in traceback.walk_stack(frame)]
    return frames[::-1]


def suspended(awaited: Any) -> Stack:
    """The stack of a coroutine that waits: its own frame, that of what it awaits, and so on."""
    frames: Stack = []
    while awaited is not None:
        if type(awaited).__name__.startswith("async_generator_"):  # one step of such a generator, which it refers to
            awaited = next(filter(inspect.isasyncgen, gc.get_referents(awaited)), None)
        frame = _attribute(awaited, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = _attribute(awaited, "cr_await", "gi_yieldfrom", "ag_await")
    return frames


def _attribute(thing: Any, *names: str) -> Any:
    return next(filter(None, (getattr(thing, name, None) for name in names)), None)


def line_of(frame: FrameType) -> Line:
    """The line that a frame is at."""
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def called_from(frame: FrameType | None, most: int) -> Lines:
    """This line of a stack, and those that called it, at most so many."""
    found: Lines = []
    while frame is not None and len(found) < most:
        found.append(line_of(frame))
        frame = frame.f_back
    return found


def where_responding(lines: SourceLines) -> str | None:
    """The learner's outermost line of a request that waits, below the framework, which has called it."""
    for stack in stacks():
        below = [n for n, (frame, _) in enumerate(stack) if str(frame.f_globals.get("__name__")).startswith(FRAMEWORK)]
        named = (lines.where(frame.f_code, line) for frame, line in stack[below[-1] :]) if below else ()
        if found := next(filter(None, named), None):
            return found
    return None


def where_locked(lines: SourceLines) -> str | None:
    """The learner's line where a task waits for a lock that another one holds."""
    waiting = (stack for stack in stacks() if stack and stack[-1][0].f_globals.get("__name__") in _LOCKS)
    return lines.where_first(stack for stack in waiting if stack[-1][0].f_code.co_name == "acquire")


def where_kept(lines: SourceLines, text: str) -> str | None:
    """The learner's function that keeps this text, with something around it: in a closure, else in a waiting frame."""
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__closure__:
            code = thing.__code__
            if (line := lines.where(code, code.co_firstlineno)) and any(_keeps(one, text) for one in thing.__closure__):
                return line
    for stack in stacks():
        for frame, number in reversed(stack):
            line = lines.where(frame.f_code, number)
            if line and any(_holds(value, text) for value in frame.f_locals.values()):
                return line
    return None


def _keeps(cell: Any, text: str) -> bool:
    try:
        return _holds(cell.cell_contents, text)
    except ValueError:  # it is empty
        return False


def _holds(value: object, text: str) -> bool:
    """Whether something is longer than this text, and contains it."""
    if isinstance(value, str):
        return text in value and value != text
    if isinstance(value, bytes | bytearray):
        return text.encode() in value and bytes(value) != text.encode()
    if isinstance(value, list | tuple | deque):
        return any(one == text or _holds(one, text) for one in [*value][:_MOST_HELD] if isinstance(one, str | bytes))
    if type(value).__module__.startswith("lab."):
        return any(_holds(one, text) for one in vars(value).values() if isinstance(one, str | bytes | bytearray | list))
    return False
