"""7.7: who waits for a slot, who is refused at once, and who has waited too long."""

from __future__ import annotations

import random
from typing import Any

from checks.harness.errors import Failure
from checks.support.ex7.streams import PATH, Reader, Service, Streams

PATIENCE = 0.25
"""`queue_seconds` of the second service."""
FIRST_COME = "`await decoder.acquire()` keeps the order of arrival: no list of your own, and no polling."
LIMIT = (
    "`if not decoder.free and decoder.waiting >= settings.decoder_queue:` a 503, with nothing awaited between this and "
    "`acquire`."
)
TIMED = "`async with asyncio.timeout(settings.queue_seconds):` around `acquire` alone."


def refused(answer: Any, what: str) -> None:
    """A 503 with `Retry-After`, whole seconds, at least 1."""
    assert answer.status_code == 503, Failure(
        f"{what}, and the next was answered {answer.status_code}", "503: come again later", LIMIT
    )
    after = answer.headers.get("retry-after")
    assert after is not None and after.isascii() and after.isdigit() and int(after) >= 1, Failure(  # noqa: PT018
        f"the 503 of {PATH} has Retry-After: {after}",
        "whole seconds, at least 1",
        '`{"retry-after": str(max(1, math.ceil(settings.queue_seconds)))}`.',
    )


def _waits(streams: Streams, what: str) -> Reader:
    """Begin a stream that finds no free slot: it waits, and nothing is sent."""
    probe, before = streams.probe, len(streams.probe.wanted)
    reader = streams.begin()
    streams.app.until(lambda: reader.done or len(probe.wanted) > before)
    streams.app.settle()
    if reader.done:
        status = reader.pending.answer().status_code
        raise AssertionError(
            Failure(f"{what}, and the next was answered {status} at once", "it waits for a slot", LIMIT)
        )
    assert reader.pending.status is None, Failure(
        f"{what}, and the status {reader.pending.status} was sent to one that waits for a slot",
        "nothing is sent before the slot is there: a 200 cannot become a 503 any more",
        "`acquire` first, then the `http.response.start`: not in the generator of a response that has begun.",
    )
    assert not probe.of(reader.prompt), Failure(
        f"{what}, and a stream without a slot is decoded", "a slot first", "`await decoder.acquire()`."
    )
    return reader


def the_queue(service: Service, rng: random.Random) -> tuple[int, int]:
    """Slots held, a queue that is full, and the next two refused. Returns how many slots and places there were."""
    slots, places = rng.randint(2, 4), rng.randint(2, 4)
    streams = Streams(service, rng, slots, queue=places)
    holding = [streams.begin() for _ in range(slots)]
    for one in holding:
        streams.asking(one)
    waiting = [_waits(streams, f"{slots} slots are held and {number} wait, of {places}") for number in range(places)]
    what = f"{slots} slots are held and {places} wait, as many as `decoder_queue`"
    _next_is_refused(streams, what)
    _next_is_refused(streams, what)
    for one in holding[:1]:
        streams.end(one)
    _is_next(streams, waiting)
    waiting.append(_waits(streams, f"{slots} slots are held and {places - 1} wait, of {places}"))
    _next_is_refused(streams, what)
    for one in [*holding[1:], *waiting]:
        streams.let(one)
        streams.end(one)
    streams.given_back("all had ended", "`release`, once, for each slot.")
    assert not streams.probe.unslotted, Failure(
        "`generate` was called while no slot was held", "a slot first", "`await decoder.acquire()`."
    )
    return slots, places


def _next_is_refused(streams: Streams, what: str) -> None:
    one = streams.begin()
    streams.app.until(lambda: one.done or streams.probe.of(one.prompt))
    assert one.done, Failure(f"{what}, and the next waits, too", "503 at once", LIMIT)
    refused(one.pending.answer(), what)


def _is_next(streams: Streams, waiting: list[Reader]) -> None:
    """The longest waiting is decoded for."""
    streams.app.until(lambda: any(streams.probe.of(one.prompt) for one in waiting))
    streams.app.settle()
    served = [number for number, one in enumerate(waiting) if streams.probe.of(one.prompt)]
    assert served == [0], Failure(
        f"a slot was released while {len(waiting)} waited, and "
        + ("nobody got it" if not served else f"number {served[0] + 1} of them got it"),
        "the longest waiting is next",
        FIRST_COME,
        streams.app.where_waiting(),
    )


def too_long(service: Service, rng: random.Random) -> float:
    """Who has waited `queue_seconds` is refused, not before; who is decoded for is not cut off. Returns the seconds."""
    streams = Streams(service, rng, 1, queue=2, seconds=PATIENCE)
    holds = streams.begin()
    streams.let(holds)
    late = _waits(streams, "the only slot is held")
    streams.app.until(lambda: late.done, horizon=10.0)
    assert late.done, Failure(
        f"a stream waits for a slot for longer than queue_seconds={PATIENCE}", "503 once it has waited that long", TIMED
    )
    waited = float(late.pending.finished - late.pending.sent)
    refused(late.pending.answer(), f"a stream had waited queue_seconds={PATIENCE}")
    assert waited >= PATIENCE, Failure(
        f"with queue_seconds={PATIENCE} a stream was refused after {waited:.3f} s", "not before that", TIMED
    )
    streams.app.settle()
    assert not holds.done, Failure(
        f"a stream that was being decoded was cut off after queue_seconds={PATIENCE}",
        "work that has begun is never cut off",
        TIMED,
    )
    streams.let(holds)
    places = [_waits(streams, "one had waited too long, and its place is free again") for _ in range(2)]
    streams.end(holds)
    for one in places:
        streams.let(one)
        streams.end(one)
    assert not streams.probe.of(late.prompt), Failure(
        "a stream that had been refused was decoded for when the slot came", "never", TIMED
    )
    streams.given_back("all had ended or been refused", "Who is refused is not kept on the decoder's list: " + TIMED)
    return waited
