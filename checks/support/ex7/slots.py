"""7.7: who waits for a slot, who is refused at once, and who has waited too long."""

from __future__ import annotations

import random
from typing import Any

from checks.harness.errors import BrokenOff, Failure, LearnerError
from checks.support.ex7.streams import LIMIT, PATH, Reader, Service, Streams

REFUSED = 503
PATIENCE = 0.25
"""`queue_seconds` of the second service."""
FIRST_COME = "`await decoder.acquire()` keeps the order of arrival: no list of your own, and no polling."
CAUGHT = "`except TimeoutError:` around that limit, and a 503."
TIMED = "`async with asyncio.timeout(settings.queue_seconds):` around `acquire` alone."


def refused(answer: Any, what: str, hint: str, where: str | None) -> None:
    """A 503 with `Retry-After`, whole seconds, at least 1."""
    assert answer.status_code == REFUSED, Failure(
        f"{what}, and was answered {answer.status_code}", "503: its client can try again later", hint, where
    )
    after = answer.headers.get("retry-after")
    assert after is not None and after.isascii() and after.isdigit() and int(after) >= 1, Failure(  # noqa: PT018
        f"the 503 of {PATH} has Retry-After: {after}",
        "whole seconds, at least 1",
        '`{"retry-after": str(max(1, math.ceil(settings.queue_seconds)))}`.',
        where,
    )


def _waits(streams: Streams, what: str) -> Reader:
    """Begin a stream that finds no free slot: it waits, and nothing is sent."""
    probe, before = streams.probe, len(streams.probe.wanted)
    reader = streams.begin()
    streams.asks_for_a_slot(reader, before)
    streams.app.settle()
    if reader.done:
        status = reader.pending.answer().status_code
        raise AssertionError(
            Failure(
                f"{what}, and the next was answered {status} at once",
                "it waits for a slot",
                LIMIT,
                streams.where_limited(reader),
            )
        )
    assert reader.pending.status is None, Failure(
        f"{what}, and the status {reader.pending.status} was sent to a stream that waits for a slot",
        "nothing is sent before the slot is there: a 200 cannot become a 503 any more",
        "`acquire` first, then the `http.response.start`: not in the generator of a response that has begun.",
        streams.where_sent(reader, "head") or streams.where_acquired,
    )
    assert not probe.of(reader.prompt), Failure(
        f"{what}, and a stream without a slot is decoded",
        "it waits until it has a slot",
        "`await decoder.acquire()`.",
        streams.where_decoded,
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
        streams.let_out(one)
        streams.end(one)
    streams.given_back("all had ended", "`release`, once, for each slot.")
    return slots, places


def refused_without_patience(service: Service, rng: random.Random) -> None:
    """With `queue_seconds` 0 a refusal still says 1 s at least."""
    streams = Streams(service, rng, 1, queue=0, seconds=0)
    asked = []
    for _ in range(2):
        asked.append(one := streams.begin())
        streams.until(lambda one=one: one.done or streams.probe.of(one.prompt))  # type: ignore[misc]
    for one in asked:
        if one.done and one.pending.status == REFUSED:
            refused(one.pending.answer(), "a stream was refused", LIMIT, _where_refused(streams, one))


def _next_is_refused(streams: Streams, what: str) -> None:
    one = streams.begin()
    streams.until(lambda: one.done or streams.probe.of(one.prompt))
    assert one.done, Failure(f"{what}, and the next waits, too", "503 at once", LIMIT, streams.where_limited(one))
    refused(one.pending.answer(), f"{what}, and the next came", LIMIT, _where_refused(streams, one))


def _where_refused(streams: Streams, one: Reader) -> str | None:
    return streams.where_sent(one, "head") or streams.where_acquired


def _is_next(streams: Streams, waiting: list[Reader]) -> None:
    """The longest waiting is decoded for."""
    streams.until(lambda: any(streams.probe.of(one.prompt) for one in waiting))
    streams.app.settle()
    served = [number for number, one in enumerate(waiting) if streams.probe.of(one.prompt)]
    assert served == [0], Failure(
        f"a slot was released while {len(waiting)} waited, and "
        + ("no stream got it" if not served else f"number {served[0] + 1} of them got it"),
        "the stream that waits longest gets it",
        FIRST_COME,
        streams.where_acquired,
    )


def too_long(service: Service, rng: random.Random) -> float:
    """Who has waited `queue_seconds` is refused, not before; who is decoded for is not cut off. Returns the seconds."""
    streams = Streams(service, rng, 1, queue=2, seconds=PATIENCE)
    holds = streams.begin()
    streams.let_out(holds)
    late = streams.begin()
    streams.until(lambda: late.done, horizon=10.0)
    where = streams.where_acquired
    streams.app.settle()
    assert not holds.done, Failure(
        f"a stream that was being decoded was cut off after queue_seconds={PATIENCE}",
        "work that has begun is never cut off",
        TIMED,
        _where_cut_off(holds) or where,
    )
    assert late.done, Failure(
        f"a stream waits for a slot for longer than queue_seconds={PATIENCE}",
        "503 once it has waited that long",
        TIMED,
        where,
    )
    waited = float(late.pending.finished - late.pending.sent)
    assert waited >= PATIENCE, Failure(
        f"the only slot is held, and with queue_seconds={PATIENCE} a stream was answered after {waited:.3f} s",
        f"it waits {PATIENCE} s for a slot before it is refused",
        TIMED,
        where,
    )
    _refused_in_time(late, where)
    streams.let_out(holds)
    places = [streams.begin() for _ in range(2)]
    streams.app.settle()
    streams.end(holds)
    for one in places:
        _is_served(streams, one, where)
    assert not streams.probe.of(late.prompt), Failure(
        "a stream that had been refused was decoded when the slot came", "no decoding after a 503", TIMED, where
    )
    hint = "Take a refused stream off the decoder's list: " + TIMED
    streams.given_back("all had ended or been refused", hint, where=lambda: streams.where_acquired)
    return waited


def _where_cut_off(one: Reader) -> str | None:
    """Where the limit is that ended it: the line that its request has ended in, if it raised."""
    try:
        one.pending.answer()
    except LearnerError as error:
        return error.where
    except Exception:
        return None
    return None


def _refused_in_time(late: Reader, where: str | None) -> None:
    what = f"a stream had waited queue_seconds={PATIENCE}"
    try:
        answer = late.pending.answer()
    except BrokenOff as error:
        seen = f"{what}, and its request ended in {error.ended}"
        raise AssertionError(Failure(seen, "503: its client can try again later", CAUGHT, where)) from None
    refused(answer, what, TIMED, where)


def _is_served(streams: Streams, one: Reader, where: str | None) -> None:
    """One of two that have come since is decoded for, unless it has waited too long meanwhile."""
    streams.until(lambda: one.done or any(call.asks for call in streams.probe.of(one.prompt)))
    if not one.done:
        streams.let_out(one)
        streams.end(one)
        return
    waited = float(one.pending.finished - one.pending.sent)
    assert waited >= PATIENCE, Failure(
        "a stream that had waited too long was refused, and its place in the queue is still taken: one that came later "
        f"was answered {one.pending.answer().status_code} after {waited:.3f} s",
        "its place is free: a refused stream leaves the decoder's list",
        TIMED,
        where,
    )
    _refused_in_time(one, where)
