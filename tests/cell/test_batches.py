"""Scenes with a `Batcher`: what is reported is what happened, whatever the batcher does."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from checks.harness import ROOT, source_lines
from checks.harness.cell import batches, scene_watch
from checks.harness.errors import LearnerError
from checks.harness.source_lines import SourceLines

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


def play(batcher: Callable[..., Any], scene: dict[str, Any]) -> dict[str, Any]:
    """The scene, with a batcher whose lines are in this file."""
    return batches.play(batcher, scene, SourceLines(ROOT))


@pytest.fixture(autouse=True)
def _learners_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batchers of this file are the learner's."""
    monkeypatch.setattr(source_lines, "LEARNERS", ("tests",))


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


class Windowed(Alone):
    """Each item in a call of its own, after its window."""

    def __init__(self, run: Run, max_batch: int, batch_window: float) -> None:
        super().__init__(run, max_batch, batch_window)
        self.window = batch_window

    async def submit(self, item: Any) -> Any:
        """Ask when the window is over."""
        await asyncio.sleep(self.window)
        return await super().submit(item)


def test_calls_and_callers_are_told_with_their_times() -> None:
    """Equal items are told apart, and an exception is told by its words."""
    told = play(Alone, SCENE)

    assert [([0], 0.0), ([1], 2.0)] == [(call["items"], round(call["entered"], 6)) for call in told["calls"]]
    assert ["answered", "raised"] == [told["callers"][number]["how"] for number in ("0", "1")]
    assert [7.0, ["Bad", "no mean"]] == [told["callers"][number]["what"] for number in ("0", "1")]
    assert pytest.approx(0.6) == told["callers"]["0"]["ended"]
    assert (0, None, 1) == (told["tasks"], told["clock"], len(told["closed"]))


def test_a_caller_who_is_never_answered_is_waited_for_until_the_horizon() -> None:
    """The scene has an end, and says that it was none."""

    class Never(Alone):
        async def submit(self, item: Any) -> Any:
            await asyncio.Event().wait()

    told = play(Never, SCENE)

    assert [None, None] == [told["callers"][number]["how"] for number in ("0", "1")]


def test_a_task_that_stays_is_counted() -> None:
    """What the batcher has started and not ended."""

    class Stays(Alone):
        def __init__(self, run: Run, max_batch: int, batch_window: float) -> None:
            super().__init__(run, max_batch, batch_window)
            self.task = asyncio.get_running_loop().create_task(asyncio.Event().wait())

    assert 1 == play(Stays, SCENE)["tasks"]


@pytest.mark.parametrize("gives_way", [True, False])
def test_what_spins_is_ended(monkeypatch: pytest.MonkeyPatch, gives_way: bool) -> None:
    """A batcher that waits for a clock which does not move takes its CPU time, and no more."""
    monkeypatch.setattr(scene_watch, "CPU_SECONDS", 0.1)

    class Spins(Alone):
        async def submit(self, item: Any) -> Any:
            for _ in itertools.count():
                if gives_way:
                    await asyncio.sleep(0)

    with pytest.raises(LearnerError, match="did not end"):
        play(Spins, SCENE)


def test_a_sleep_on_the_loop_is_named_and_not_waited_for() -> None:
    """It would stop the real clock, and the virtual one would say nothing of it."""

    class Sleeps(Alone):
        async def submit(self, item: Any) -> Any:
            time.sleep(1000)  # noqa: ASYNC251 - the mistake

    with pytest.raises(LearnerError, match="event loop's own thread") as raised:
        play(Sleeps, SCENE)

    assert "time.sleep(1000)" in (raised.value.failure.where or "")


def test_a_mistake_in_a_task_of_the_batcher_is_what_is_told() -> None:
    """Its callers wait for ever, and that exception is why."""

    class Dies(Alone):
        async def submit(self, item: Any) -> Any:
            self.task = asyncio.create_task(self._serve())
            await asyncio.Event().wait()

        async def _serve(self) -> None:
            len(None)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len"):
        play(Dies, SCENE)


def test_a_method_that_is_missing_is_named() -> None:
    """With the one that is like it."""

    class Renamed(Alone):
        shut_down = Alone.close

        def __getattribute__(self, name: str) -> Any:
            if name == "close":
                raise AttributeError(name=name, obj=self)
            return super().__getattribute__(name)

    with pytest.raises(LearnerError, match="has no `close`"):
        play(Renamed, SCENE)


def test_another_clock_is_noted() -> None:
    """With the line that reads it."""

    class Reads(Alone):
        async def submit(self, item: Any) -> Any:
            time.monotonic()
            return await super().submit(item)

    assert "time.monotonic()" in play(Reads, SCENE)["clock"]


def test_a_stub_that_only_a_caller_gets_comes_out_of_the_scene() -> None:
    """Else a part that is not started would be one that fails."""

    class Unclosed(Alone):
        async def close(self) -> None:
            raise NotImplementedError("6.6: Batcher.close")

    with pytest.raises(NotImplementedError, match="close"):
        play(Unclosed, SCENE)


def test_a_scene_that_is_noted_says_where_it_takes_its_course() -> None:
    """The line that asks the model, the timers, and where what a caller got was raised; and nothing else differs."""
    told = play(Windowed, SCENE)
    noted = play(Windowed, SCENE | {"noted": True})
    notes = noted.pop("notes")

    assert noted == told
    assert ["await self.run" in call["asked"] for call in notes["calls"]] == [True, True]
    assert ["asyncio.sleep" in line for _, _, line in notes["timers"]] == [True, True]
    assert [ends for _, ends, _ in notes["timers"]] == pytest.approx([1.0, 3.0])
    assert "raise outcome" in notes["ended"]["1"]
