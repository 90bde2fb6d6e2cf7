"""The virtual clock: waiting takes no time, and a time that is over reads as over."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from checks.harness.cell.virtual_time import TICK, virtual_time


async def _naps(seconds: float) -> tuple[int, float]:
    """Wait in naps until a time is over by the clock's own word: how many naps, and how late it was."""
    loop, naps = asyncio.get_running_loop(), 0
    due = loop.time() + seconds
    while loop.time() < due and naps < 100:
        naps += 1
        try:
            async with asyncio.timeout_at(due):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
    return naps, loop.time() - due


@pytest.mark.parametrize("seed", range(5))
def test_a_time_that_is_over_reads_as_over(seed: int) -> None:
    """Whatever rounding makes of a sum of times: a program that looks at the clock after its timer must not spin."""
    draw = random.Random(seed)

    async def wait() -> list[tuple[int, float]]:
        return [await _naps(round(draw.uniform(0.001, 2), 3)) for _ in range(200)]

    assert all(naps == 1 and 0 <= late < TICK for naps, late in virtual_time(wait()))


def test_an_hour_is_over_at_once() -> None:
    """To the tick."""
    began = time.monotonic()

    async def hour() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert 3600 == pytest.approx(virtual_time(hour()), abs=TICK)
    assert time.monotonic() - began < 60
