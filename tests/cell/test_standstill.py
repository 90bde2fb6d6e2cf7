"""When nothing more can happen on a loop, and when something still can."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from checks.harness.cell import standstill as watch_module
from checks.harness.cell.sleep_spy import SleepSpy
from checks.harness.cell.standstill import Watch, WatchedLoop


@pytest.fixture
def watch() -> Iterator[Watch]:
    """A loop that runs on a thread of its own, watched."""
    loop = WatchedLoop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield Watch(loop, thread)
    if thread.is_alive():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
    if not thread.is_alive():
        loop.close()


def on_loop(watch: Watch, call: Callable[[], object]) -> None:
    """Call something on the loop's own thread."""
    watch.loop.call_soon_threadsafe(call)


def test_what_comes_is_waited_for(watch: Watch) -> None:
    """A callback that the loop still has to run is not missed."""
    came = threading.Event()
    on_loop(watch, came.set)

    assert watch.until(came.is_set, lambda: 0) is None


def test_an_idle_loop_is_settled(watch: Watch) -> None:
    """Nothing ready, no timer, nothing new: it will not come."""
    standstill = watch.until(lambda: False, lambda: 0)

    assert standstill is not None
    assert standstill.kind == "settled"


def test_a_timer_keeps_a_loop_from_being_settled(watch: Watch) -> None:
    """What is due in half a second is waited for, though everything is quiet until then."""
    came = threading.Event()
    on_loop(watch, lambda: watch.loop.call_later(0.5, came.set))

    assert watch.until(came.is_set, lambda: 0) is None


def test_a_cancelled_or_distant_timer_does_not(watch: Watch) -> None:
    """A timeout a minute away brings nothing that is waited for."""
    on_loop(watch, lambda: watch.loop.call_later(60, lambda: None))
    on_loop(watch, lambda: watch.loop.call_later(1, lambda: None).cancel())

    standstill = watch.until(lambda: False, lambda: 0)

    assert standstill is not None
    assert standstill.kind == "settled"


def test_progress_is_waited_for(watch: Watch) -> None:
    """While something moves, even slowly and outside of the loop, nothing is settled."""
    steps: list[int] = []
    timer = threading.Timer(0, lambda: None)

    def step() -> None:
        nonlocal timer
        steps.append(1)
        if len(steps) < 10:
            timer = threading.Timer(0.05, step)
            timer.start()

    step()

    assert watch.until(lambda: len(steps) == 10, lambda: len(steps)) is None
    timer.join()


def test_a_blocking_call_is_seen(watch: Watch) -> None:
    """A loop whose thread stands still answers nothing, and is told from a slow one."""
    gate = threading.Event()
    on_loop(watch, lambda: gate.wait(30))

    standstill = watch.until(lambda: False, lambda: 0)
    gate.set()

    assert standstill is not None
    assert standstill.kind == "blocked"


def test_many_short_sleeps_are_a_blocking_call(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks again and again, and sleeps in between, blocks the loop, though its thread never stands still."""
    spy, over = SleepSpy(), threading.Event()
    monkeypatch.setattr(watch_module, "SLEEPS", spy)

    async def polls() -> None:
        while not over.is_set():
            spy(0.002)

    asyncio.run_coroutine_threadsafe(polls(), watch.loop)
    standstill = watch.until(lambda: False, lambda: 0)
    over.set()

    assert standstill is not None
    assert standstill.kind == "blocked"


def test_a_computation_without_end_is_seen(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop whose thread burns too much CPU time on one callback is spinning."""
    monkeypatch.setattr(watch_module, "SPINNING", 0.5)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    on_loop(watch, spin)
    standstill = watch.until(lambda: False, lambda: 0, seconds=600)
    stop.set()

    assert standstill is not None
    assert standstill.kind == "spinning"


def test_a_known_hold_is_proof_at_once(watch: Watch) -> None:
    """Where a call is known to be held on the loop's thread, no round is needed."""
    watch.held_by = lambda ident: ident == watch.thread.ident

    standstill = watch.until(lambda: False, lambda: 0)

    assert standstill is not None
    assert standstill.kind == "blocked"


def test_a_loop_that_ended_is_seen(watch: Watch) -> None:
    """A stopped loop brings nothing."""
    on_loop(watch, watch.loop.stop)
    watch.thread.join()

    standstill = watch.until(lambda: False, lambda: 0)

    assert standstill is not None
    assert standstill.kind == "ended"


def test_a_watcher_that_hardly_gets_to_run_does_not_judge(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the rounds take far longer than asked for, a missed deadline is the machine's fault."""
    monkeypatch.setattr(watch_module, "_run_a_thread", lambda: threading.Event().wait(0.6))

    standstill = watch.until(lambda: False, time.monotonic, seconds=1)

    assert standstill is not None
    assert standstill.kind == "starved"


def test_a_deadline_ends_the_wait(watch: Watch) -> None:
    """Progress without end is not waited for without end."""
    standstill = watch.until(lambda: False, time.monotonic, seconds=0.1)

    assert standstill is not None
    assert standstill.kind == "late"


def test_short_sleeps_of_many_tasks_come_to_an_end(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty handlers that block one after the other keep the loop for longer than a standstill takes, and are none."""
    spy, over = SleepSpy(), threading.Event()
    monkeypatch.setattr(watch_module, "SLEEPS", spy)
    monkeypatch.setattr(watch_module, "STILL_ROUNDS", 10)

    async def blocks() -> None:
        spy(0.02)

    async def fifty() -> None:
        await asyncio.gather(*[blocks() for _ in range(50)])
        over.set()

    asyncio.run_coroutine_threadsafe(fifty(), watch.loop)

    assert watch.until(over.is_set, lambda: 0) is None
