"""7.5: readers who leave, at any moment. Their slots are free at once, and those of the others stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from checks.harness.cell.decoder_probe import Decoding
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.support.ex7.streams import A_WHILE, NO_LOCK, RELEASE, Reader, Streams

LISTEN = "A task of its own awaits `receive()` until that gives `http.disconnect`. Then cancel the task that decodes."
AT_ANY_TURN = (
    LISTEN + " Use `asyncio.timeout` instead of `asyncio.wait_for`, which in Python 3.11 loses a cancellation that "
    "comes in the same turn as a slot."
)
LOOK = (
    "When the slot comes, check whether the reader is still there before you call `generate`. If not, release it. "
    "Better: race `acquire` against `http.disconnect`, and cancel the one that loses. Then it leaves the queue, too."
)
TURNS = 50
STEPS = 150

LEFT, CANCELLED = "A reader left", "The server cancelled a request"
WAYS: dict[str, Callable[[Reader], None]] = {
    LEFT: lambda reader: reader.pending.leave(),
    CANCELLED: lambda reader: reader.pending.cancel(),
}
BEFORE_THE_BODY = (
    "When the response ends, cancel the task that decodes: also while the head is sent. A generator that was never "
    "started runs no `finally`: a response of your own can have one around all that it sends."
)
ALL_THREE = (
    "Put a `finally` around everything, also around `acquire`. Cancel two tasks there: the one that decodes, and the "
    "one that awaits `receive()`."
)


def in_the_middle(streams: Streams) -> None:
    """In the prefill, after one token and after three; the reader leaves, or the server cancels the request."""
    for way, leave in WAYS.items():
        for tokens in (0, 1, 3):
            reader = streams.begin()
            for _ in range(tokens):
                streams.let_out(reader)
            decoding = streams.asking(reader)
            leave(reader)
            what = f"{way} {'before its first token' if not tokens else _after_tokens(tokens)}"
            streams.given_back(what, partial(_listens, reader, decoding), whose="its")
            streams.closed(decoding)
            assert decoding.closed, Failure(
                f"{what}. Its slot is free, but `generate` of the decoder is not closed",
                "`generate` is closed: its tokens have no reader any more",
                "Cancel the task that iterates it; `async with aclosing(decoder.generate(...)) as tokens:`.",
                streams.where_decoded,
            )


def _after_tokens(tokens: int) -> str:
    return f"after {tokens} token{'s' * (tokens != 1)}"


def in_the_head(streams: Streams) -> None:
    """While the head of the answer is being sent: nothing of the body has begun then, and the decoder works already.

    A reader who leaves is told by `receive` (ASGI 2.3), or by an OSError of `send` as well (2.4).
    """
    for way, leave in WAYS.items():
        for raises in (False, True) if way == LEFT else (False,):
            reader = streams.begin(taken=Probe(), raises=raises)
            pending = reader.pending
            begins = partial(_begins, streams, reader)
            streams.until(begins)
            streams.app.settle()
            if pending.status is None and not reader.done:
                streams.let_out(reader)  # its head comes with its first token
                streams.until(lambda pending=pending: pending.status is not None)  # type: ignore[misc]
            leave(reader)
            streams.over(reader)
            what = f"{way} while the head of the answer was being sent" + ", and `send` raised an OSError" * raises
            where = partial(streams.where_sent, reader, "head")
            streams.given_back(what, BEFORE_THE_BODY, whose="its", where=where)


def _begins(streams: Streams, reader: Reader) -> bool:
    """Whether its head is being sent, or its decoder is asked, or it has ended."""
    asked = any(call.asks for call in streams.probe.of(reader.prompt))
    return asked or reader.done or reader.pending.status is not None


def _listens(reader: Reader, decoding: Decoding) -> str:
    """What mends a slot that is kept: whether anything came of it that the reader left decides."""
    return RELEASE if reader.done or decoding.closed else LISTEN


def at_each_turn(streams: Streams) -> None:
    """After each of so many turns of the loop: wherever it is then, no slot is lost, and none comes back twice."""
    for turns in range(TURNS):
        reader = streams.begin(leaves_after=turns)
        streams.ended(reader)
        what = f"a reader left {turns} turns of the event loop after its request had come"
        assert reader.done, Failure(
            f"{what}, and the app did not return",
            "the app returns",
            AT_ANY_TURN,
            streams.app.where_responding() or streams.where_decoded,
        )
        streams.given_back(what, RELEASE, whose="its")


def while_it_waits(streams: Streams) -> None:
    """Of three that come, with one slot, the second leaves: it is never decoded for, and the third is."""
    responding = None
    for way, leave in WAYS.items():
        first, second, third = (_after(streams, number) for number in range(3))
        responding = streams.app.where_responding()
        streams.let_out(first)
        leave(second)
        if way == LEFT:
            streams.ended(second)  # one that looks from time to time; another looks when its turn has come
        streams.app.settle()
        streams.end(first)
        streams.let_out(third)
        assert not streams.probe.of(second.prompt), Failure(
            f"{way} while the stream waited for a slot. It was still decoded when the slot came",
            "the slot goes to the next stream whose reader is still there",
            LOOK,
            streams.where_serving,
        )
        streams.end(third)
        streams.given_back("all had ended or left", RELEASE)
    _no_task_is_left(streams, responding)


def _no_task_is_left(streams: Streams, where: str | None) -> None:
    """At the end of the lifespan, when all streams have ended. One that looks from time to time has ended by then."""
    streams.until(lambda: False, A_WHILE)
    streams.app.stop()
    left = streams.app.tasks_left
    assert not left, Failure(
        f"A reader had left and a request had been cancelled while they waited for a slot. {left} "
        f"task{'s' * (left != 1)} of the app {'were' if left > 1 else 'was'} left at the end",
        "no task: decode, send and listen end together",
        ALL_THREE,
        where or streams.where_listening,
    )


def _after(streams: Streams, number: int) -> Reader:
    """Begin a stream, and wait until it has asked for a slot: the next comes later."""
    before = len(streams.probe.wanted)
    reader = streams.begin()
    streams.asks_for_a_slot(reader, before)
    if number == 0:
        streams.app.settle()
    return reader


def random_steps(streams: Streams) -> int:
    """Begin, let out, end, fail, leave, cancel, leave and cancel: after each step as many slots are held as should.

    Returns how many steps there were.
    """
    rng, slots = streams.rng, streams.probe.slots
    alive: list[Reader] = []
    gone: list[Reader] = []
    for step in range(STEPS):
        decoded = [one for one in alive if any(call.asks for call in streams.probe.of(one.prompt))]
        deed = rng.choice(("begin", "begin", "let", "let", "end", "fail", "leave", "cancel", "both"))
        if deed == "begin" or not alive or (deed in ("let", "end", "fail") and not decoded):
            deed = "begin"
            if len(alive) < 3 * slots:
                alive.append(streams.begin(most=STEPS))
        elif deed == "let":
            streams.let_out(rng.choice(decoded))
        elif deed in ("end", "fail"):
            one = rng.choice(decoded)
            call = streams.asking(one)
            streams.probe.end(call) if deed == "end" else streams.probe.fail(call, "out of memory")
            alive.remove(one)
        else:
            one = rng.choice(alive)
            alive.remove(one)
            gone.append(one)
            if deed != "cancel":
                one.pending.leave()
            if deed != "leave":
                one.pending.cancel()
        held = min(slots, len(alive))
        streams.given_back(f"step {step + 1} ({deed}): {_alive(len(alive))}", RELEASE, held)
        _decoded_are_alive(streams, alive, held)
    for one in alive:
        one.pending.leave()
    streams.given_back("all had left", RELEASE)
    return STEPS


def _alive(number: int) -> str:
    return "1 stream is alive" if number == 1 else f"{number} streams are alive"


def _decoded_are_alive(streams: Streams, alive: list[Reader], held: int) -> None:
    """Those who are decoded for are still there, and they are as many as hold a slot."""
    prompts = {one.prompt for one in alive}

    def decoded(*, there: bool) -> int:
        return sum(call.asks and (call.prompt in prompts) == there for call in streams.probe.decodings)

    streams.until(lambda: decoded(there=True) == held and not decoded(there=False))
    dead, count = decoded(there=False), decoded(there=True)
    assert not dead, Failure(
        f"{dead} streams are decoded though their readers have left", "no such stream", LOOK, streams.where_serving
    )
    assert count == held, Failure(
        f"{held} slots are held, and {count} streams are decoded",
        "one stream is decoded for each slot that is held",
        NO_LOCK,
        streams.app.where_locked() or streams.where_decoded,
    )
