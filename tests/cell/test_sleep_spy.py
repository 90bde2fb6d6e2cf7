"""Sleeps on an event loop's thread, and elsewhere."""

from __future__ import annotations

import asyncio
import time

import pytest

from checks.harness.cell.sleep_spy import SleepSpy


async def test_a_sleep_on_a_loops_thread_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`time.sleep` is noted where an event loop then stands still, and nowhere else; it sleeps all the same."""
    monkeypatch.setattr(time, "sleep", time.sleep)
    spy = SleepSpy()
    spy.install()

    async def handler() -> None:
        time.sleep(0.01)  # noqa: ASYNC251 - the mistake that is looked for

    started = time.perf_counter()
    await asyncio.to_thread(time.sleep, 0.01)
    await handler()

    assert [[frame.f_code.co_name for frame, _ in stack][-1] for stack in spy.stacks] == ["handler"]
    assert spy.elsewhere == 1
    assert time.perf_counter() - started >= 0.02
