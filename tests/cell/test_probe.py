"""The probe: counts, holds, releases."""

from __future__ import annotations

import asyncio
import threading

import pytest

from checks.harness.cell.probe import Probe
from checks.harness.errors import LearnerError
from tests.waiting import until


async def test_held_calls_are_inside_until_the_gate_opens() -> None:
    """All awaited calls wait together, and when they are let go each has its own answer, always the same one."""
    probe = Probe()
    calls = [asyncio.create_task(probe.predict([n, n + 2])) for n in range(5)]
    await asyncio.sleep(0)
    inside = probe.inside
    probe.open()
    answers = await asyncio.gather(*calls)

    assert (inside, probe.inside, probe.peak) == (5, 0, 5)
    assert answers == [probe.answer([n, n + 2]) for n in range(5)]
    assert 5 == len({*answers, *map(Probe().answer, [[0, 2]])}) - 1
    assert not any(call.blocking for call in probe.calls)


async def test_calls_are_released_in_any_order() -> None:
    """One call goes while the others stay."""
    probe = Probe()
    calls = [asyncio.create_task(probe.predict([n])) for n in range(3)]
    await asyncio.sleep(0)
    probe.release(probe.calls[1])
    await calls[1]

    assert [call.done() for call in calls] == [False, True, False]
    probe.open()
    await asyncio.gather(*calls)


def test_a_blocking_call_is_held_on_its_thread() -> None:
    """predict_blocking holds its thread; it knows that no event loop runs there, and who called."""
    probe = Probe()
    thread = threading.Thread(target=probe.predict_blocking, args=([1.0],), daemon=True)
    thread.start()
    until(lambda: probe.inside, "the call")
    call = probe.calls[0]
    held = probe.blocked_loop(call.thread)
    probe.open()
    thread.join()

    assert (call.blocking, call.on_loop, held) == (True, False, None)
    assert call.thread == thread.ident
    assert call.caller[0].co_name == "run"
    assert probe.inside == 0


async def test_a_blocking_call_on_a_loop_is_known_as_such() -> None:
    """It names the call that keeps this thread's event loop from everybody else."""
    probe = Probe()
    seen: list[object] = []
    mine = threading.get_ident()

    def look() -> None:
        while not probe.inside:
            pass
        seen.append(probe.blocked_loop(mine))
        probe.open()

    watcher = threading.Thread(target=look)
    watcher.start()
    probe.predict_blocking([1.0])
    watcher.join()

    assert seen == [probe.calls[0]]
    assert probe.calls[0].on_loop


async def test_a_cancelled_call_leaves() -> None:
    """A caller that gave up is no longer inside."""
    probe = Probe()
    call = asyncio.create_task(probe.predict([1.0]))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert probe.inside == 0


async def test_questions_are_counted_once_and_calls_always() -> None:
    """A service that asks everything twice has as many questions inside, and twice the calls."""
    probe = Probe()
    calls = [asyncio.create_task(probe.predict([n])) for n in (1, 2, 2)]
    await asyncio.sleep(0)
    with pytest.raises(LearnerError):
        await probe.predict("no numbers")  # type: ignore[arg-type]
    inside = probe.questions_inside
    probe.open()
    await asyncio.gather(*calls)

    assert (inside, probe.asked, len(probe.calls), probe.questions_inside) == (2, 4, 3, 0)
