"""Virtual time: asyncio on a clock that jumps from timer to timer, so that waiting is exact and costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TICK = 1e-5
"""Seconds within which two readings are the same."""
_STEP = 1e-9
"""The clock counts in these seconds, and each jump goes one beyond its timer. A program that asks whether the time is
over is then told that it is: a sum of times, rounded, may be larger than what the clock would read."""


def virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on such a clock and return its result. `asyncio.get_running_loop().time()` reads it.

    Only for pure asyncio: a blocking call shows as 0.0 there, and threads or sockets are not waited for.
    """
    with asyncio.Runner(loop_factory=_virtual_loop) as runner:
        return runner.run(work)


def _virtual_loop() -> asyncio.AbstractEventLoop:
    import looptime  # late: most cells need no such clock

    loop: Any = looptime.patch_event_loop(asyncio.SelectorEventLoop(), resolution=_STEP)
    jump = loop._selector.select
    loop._selector.select = lambda timeout=None: jump(timeout and timeout + _STEP)
    virtual: asyncio.AbstractEventLoop = loop
    return virtual
