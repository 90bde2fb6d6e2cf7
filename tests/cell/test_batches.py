"""Scenes with a `Batcher`: what is reported is what happened, whatever the batcher does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from checks.harness.cell import batches
from checks.harness.cell.batches import play

Run = Callable[[list[Any]], Awaitable[Sequence[Any]]]

SCENE: dict[str, Any] = {
    "max_batch": 2,
    "window": 1.0,
    "base": 0.5,
    "item": 0.1,
    "values": [1.0, 1.0],
    "outcomes": [["answer", 7.0], ["bad", "no mean"]],
    "calls": {},
    "steps": [{"at": 0, "do": "submit", "item": 0}, {"at": 2, "do": "submit", "item": 1}, {"at": 3, "do": "close"}],
    "horizon": 10,
}


class Alone:
    """Each item in a call of its own."""

    def __init__(self, run: Run, max_batch: int, batch_window: float) -> None:
        self.run = run

    async def submit(self, item: Any) -> Any:
        """Ask at once."""
        (outcome,) = await self.run([item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """There is nothing to close."""


def test_calls_and_callers_are_told_with_their_times() -> None:
    """Equal items are told apart, and an exception is told by its words."""
    told = play(Alone, SCENE)

    assert [([0], 0.0), ([1], 2.0)] == [(call["items"], round(call["entered"], 6)) for call in told["calls"]]
    assert ["answered", "raised"] == [told["callers"][number]["how"] for number in ("0", "1")]
    assert [7.0, ["Bad", "no mean"]] == [told["callers"][number]["what"] for number in ("0", "1")]
    assert pytest.approx(0.6) == told["callers"]["0"]["ended"]
    assert (0, True, 1) == (told["tasks"], told["over"], len(told["closed"]))


def test_a_caller_who_is_never_answered_is_waited_for_until_the_horizon() -> None:
    """The scene has an end, and says that it was none."""

    class Never(Alone):
        async def submit(self, item: Any) -> Any:
            await asyncio.Event().wait()

    told = play(Never, SCENE)

    assert [None, None] == [told["callers"][number]["how"] for number in ("0", "1")]
    assert not told["over"]


def test_a_task_that_stays_is_counted() -> None:
    """What the batcher has started and not ended."""

    class Stays(Alone):
        def __init__(self, run: Run, max_batch: int, batch_window: float) -> None:
            super().__init__(run, max_batch, batch_window)
            self.task = asyncio.get_running_loop().create_task(asyncio.Event().wait())

    assert 1 == play(Stays, SCENE)["tasks"]


def test_what_spins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batcher that waits for a clock which does not move takes its CPU time, and no more."""
    monkeypatch.setattr(batches, "CPU_SECONDS", 0.1)

    class Spins(Alone):
        async def submit(self, item: Any) -> Any:
            for _ in itertools.count():
                await asyncio.sleep(0)

    assert not play(Spins, SCENE)["over"]
