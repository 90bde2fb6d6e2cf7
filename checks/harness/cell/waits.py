"""How the calls of a model wait: on a virtual clock, which explains, and where they are at this moment."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.stacks import Stack, stacks
from checks.harness.cell.virtual_time import TICK, virtual_time
from checks.harness.source_lines import SourceLines

NEVER_ENDS = 1000.0
"""Virtual seconds after which a wait has no end."""
QUEUES = ("asyncio.locks", "asyncio.queues", "anyio._core._synchronization")
"""Modules of what only one, or a few, can hold: a call that waits there is the one that is held up."""


class Waited(NamedTuple):
    """How long each call waited, in virtual seconds: `math.inf` for one that does not end.

    `forgotten` names a coroutine that was made and not awaited; `elsewhere`: threads were put to sleep meanwhile;
    `on_loop`: so was the event loop's own. `where` is the learner's line that sleeps on the loop, else one that waits
    for another call, else one that waits.
    """

    seconds: list[float]
    forgotten: str
    elsewhere: bool
    on_loop: bool
    where: str | None


def awaited(method: Callable[..., Any], calls: Sequence[tuple[float, Any]], lines: SourceLines) -> Waited:
    """Await calls of a method on a virtual clock, each from its own start on: (seconds from now, its argument)."""

    async def one(start: float, argument: Any) -> float:
        await asyncio.sleep(start)
        clock = asyncio.get_running_loop()
        begun = clock.time()
        await method(argument)
        return clock.time() - begun

    waiting: list[Stack] = []

    async def together() -> list[float]:
        tasks = [asyncio.ensure_future(one(*call)) for call in calls]
        await asyncio.wait(tasks, timeout=TICK)
        waiting.extend(stacks(threading.get_ident()))
        await asyncio.wait(tasks, timeout=NEVER_ENDS)
        return [task.result() if task.done() else math.inf for task in tasks]

    SLEEPS.install()
    on_loop, elsewhere = len(SLEEPS.stacks), SLEEPS.elsewhere
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        seconds = virtual_time(together())
    said = re.search(r"coroutine '(.+?)' was never awaited", " ".join(str(warning.message) for warning in warned))
    slept = SLEEPS.stacks[on_loop:]
    found = slept or waiting
    held_up = [stack for stack in found if stack and stack[-1][0].f_globals.get("__name__") in QUEUES]
    where = lines.where_first([*held_up, *found])
    return Waited(seconds, said[1] if said else "", SLEEPS.elsewhere > elsewhere, bool(slept), where)


def busiest_line(lines: SourceLines) -> str | None:
    """The learner's line at which most threads are now."""
    found = Counter(filter(None, map(lines.where_frames, stacks())))
    return found.most_common(1)[0][0] if found else None


class Reference:
    """A model of the lab's own that waits as it should."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def predict(self, _: object) -> float:
        """Wait, and let others run."""
        await asyncio.sleep(self.seconds)
        return 0.0

    def predict_blocking(self, _: object) -> float:
        """Keep this thread for as long."""
        time.sleep(self.seconds)
        return 0.0


Done = Callable[[BaseException | None, Any], None]


class Calls:
    """Calls that run side by side: awaited on one loop, or each on a thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(
        self,
        method: Callable[..., Any],
        argument: Any,
        done: Callable[[BaseException | None, Any], None],
        *,
        awaits: bool,
    ) -> None:
        """Begin one. `done` is called when it ends, with what it raised and what it returned."""

        async def wait() -> None:
            try:
                answer = await method(argument)
            except BaseException as error:
                return done(error, None)
            return done(None, answer)

        def work() -> None:
            try:
                answer = method(argument)
            except BaseException as error:
                return done(error, None)
            return done(None, answer)

        if awaits:
            asyncio.run_coroutine_threadsafe(wait(), self._running())
        else:
            threading.Thread(target=work, daemon=True).start()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="calls", daemon=True).start()
        return self._loop
