"""Where the code of this process is: the frames of its threads, and of the tasks that wait."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

Stack = list[tuple[FrameType, int]]
"""Frames and their lines, from the outside in."""


def stacks(first: int | None = None) -> Iterator[Stack]:
    """The stack of the thread `first`, then of each waiting task, then of the other threads but the caller's."""
    threads = sys._current_frames()
    mine = threading.get_ident()
    if first in threads:
        yield stack_of(threads.pop(first))
    for task in [thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task)]:
        yield _suspended(task.get_coro())
    for ident, frame in threads.items():
        if ident != mine:
            yield stack_of(frame)


def stack_of(frame: FrameType) -> Stack:
    """The stack that ends with this frame. An instruction may belong to no line: then the function's first one."""
    frames = [(one, line or one.f_code.co_firstlineno) for one, line in traceback.walk_stack(frame)]
    return frames[::-1]


def _suspended(awaited: Any) -> Stack:
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
