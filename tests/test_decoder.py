"""The decoder that is given: its slots go in the order of arrival, and none is lost, whoever leaves and when."""

from __future__ import annotations

import asyncio

import pytest

from lab.decoder import SimulatedDecoder

TURNS = 8
"""Turns of the loop in which an `acquire` that is let go has ended for certain."""


def decoder(slots: int = 1) -> SimulatedDecoder:
    """One that takes no time."""
    return SimulatedDecoder(slots, 0.0, 0.0)


async def turns(number: int) -> None:
    """Let the loop go on for so many turns."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_slots_go_in_the_order_of_arrival() -> None:
    """The longest waiting is next, and who comes later takes nothing from it."""
    given, got = decoder(), list[int]()

    async def waits(number: int) -> None:
        await given.acquire()
        got.append(number)

    await given.acquire()
    waiting = [asyncio.create_task(waits(number)) for number in range(3)]
    await turns(1)
    assert (0, 3) == (given.free, given.waiting)
    for number in range(3):
        given.release()
        late = asyncio.create_task(waits(3 + number))
        waiting.append(late)
        await turns(TURNS)

    assert [0, 1, 2] == got
    assert (0, 3) == (given.free, given.waiting)
    for _ in range(4):
        given.release()
        await turns(TURNS)
    assert [0, 1, 2, 3, 4, 5] == got
    assert (1, 0) == (given.free, given.waiting)


@pytest.mark.parametrize("released", [None, 0, 1, 2])
@pytest.mark.parametrize("cancelled", range(4))
async def test_who_is_cancelled_at_any_turn_keeps_no_slot(cancelled: int, released: int | None) -> None:
    """Before it waits, while it waits, and in the very turn in which a slot is given to it."""
    given = decoder()
    await given.acquire()
    task = asyncio.create_task(given.acquire())
    other = asyncio.create_task(given.acquire())
    for turn in range(4):
        if turn == released:
            given.release()
        if turn == cancelled:
            task.cancel()
        await turns(1)
    await turns(TURNS)
    if released is None:
        given.release()
        await turns(TURNS)
    kept = task.done() and not task.cancelled()
    if kept:  # it had its slot before it was cancelled
        given.release()
        await turns(TURNS)

    assert other.done()
    assert (0, 0) == (given.free, given.waiting)
    given.release()
    assert 1 == given.free


async def test_one_who_left_is_not_counted_as_waiting() -> None:
    """Its place is free at once."""
    given = decoder()
    await given.acquire()
    task = asyncio.create_task(given.acquire())
    await turns(1)
    task.cancel()
    await turns(TURNS)

    assert 0 == given.waiting


async def test_a_slot_is_released_once() -> None:
    """One release too many is an error, and adds no slot."""
    given = decoder(2)
    await given.acquire()
    given.release()

    with pytest.raises(RuntimeError, match="no slot is held"):
        given.release()
    assert 2 == given.free


async def test_tokens_are_for_those_who_hold_a_slot() -> None:
    """The words of the prompt, over and over."""
    given = decoder()
    with pytest.raises(RuntimeError, match="acquire"):
        await anext(given.generate("a b", 3))
    await given.acquire()

    assert ["a ", "b ", "a "] == [token async for token in given.generate("a b", 3)]
