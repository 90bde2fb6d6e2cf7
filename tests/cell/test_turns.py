"""What is looked up for a card ends, whatever the learner's control does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from checks.harness.cell import turns


class OneAfterTheOther:
    """A right one, as small as can be: a slot, and who waits for it."""

    def __init__(self, app: Any, max_in_flight: int, max_queue: int, queue_seconds: float) -> None:
        self.app, self.slot = app, asyncio.Semaphore(max_in_flight)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one at a time."""
        async with self.slot:
            await self.app(scope, receive, send)


class Blocking(OneAfterTheOther):
    """One that waits on the thread."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hold up the event loop while the slot is taken."""
        while self.slot.locked():
            time.sleep(0.01)  # noqa: ASYNC251 - the mistake
        async with self.slot:
            await self.app(scope, receive, send)


def test_the_lines_of_one_that_waits() -> None:
    """What calls the app, and what a second request waits at."""
    found = turns.turns(OneAfterTheOther)

    assert [name for _, _, name in found["passes"]][:2] == ["__call__"] * 2
    assert "__call__" in [name for _, _, name in found["waits"]]
    assert found["together"] == []


def test_one_that_blocks_the_thread_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold up the card until the checkpoint's deadline."""
    monkeypatch.setattr(turns, "LONGEST", 0.2)

    assert "passes" in turns.turns(Blocking)
