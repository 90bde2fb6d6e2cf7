"""Where threads and tasks are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from checks.harness.cell.stacks import stacks


async def test_stacks_hold_waiting_tasks_and_threads() -> None:
    """The innermost frame of a task that waits, and of a thread that stands, can both be found."""
    gate = threading.Event()

    def thread_stands_here() -> None:
        gate.wait(30)

    async def task_waits_here() -> None:
        await asyncio.Event().wait()

    thread = threading.Thread(target=thread_stands_here)
    thread.start()
    task = asyncio.create_task(task_waits_here())
    await asyncio.sleep(0)
    names = {frame.f_code.co_name for stack in stacks() for frame, _ in stack}
    task.cancel()
    gate.set()
    thread.join()

    assert {"thread_stands_here", "task_waits_here"} <= names


async def test_a_stack_goes_through_a_generator_that_is_awaited() -> None:
    """A dependency with `yield` waits in one: its line is the one that is looked for."""

    async def generator_waits_here() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    task = asyncio.ensure_future(anext(generator_waits_here()))
    await asyncio.sleep(0)
    names = {frame.f_code.co_name for stack in stacks() for frame, _ in stack}
    task.cancel()

    assert "generator_waits_here" in names
