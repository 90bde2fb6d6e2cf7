"""7.5: readers who leave, at any moment. Their slots are free at once, and those of the others stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from checks.harness.cell.decoder_probe import Decoding
from checks.harness.errors import Failure
from checks.support.ex7.streams import NO_LOCK, RELEASE, Reader, Streams

LISTEN = "A task of its own awaits `receive()` until that gives `http.disconnect`. Then cancel the task that decodes."
AT_ANY_TURN = (
    LISTEN + " Use `asyncio.timeout` instead of `asyncio.wait_for`, which in Python 3.11 loses a cancellation that "
    "comes in the same turn as a slot."
)
LOOK = "When the slot comes, check whether the reader is still there before you call `generate`. If not, release it."
TURNS = 50
STEPS = 150

LEFT = "its reader left"
WAYS: dict[str, Callable[[Reader], None]] = {
    LEFT: lambda reader: reader.pending.leave(),
    "the server cancelled the request": lambda reader: reader.pending.cancel(),
}


def in_the_middle(streams: Streams) -> None:
    """In the prefill, after one token and after three; the reader leaves, or the server cancels the request."""
    for way, leave in WAYS.items():
        for tokens in (0, 1, 3):
            reader = streams.begin()
            for _ in range(tokens):
                streams.let_out(reader)
            decoding = streams.asking(reader)
            leave(reader)
            what = f"{way} {'in the prefill' if not tokens else f'after {tokens} tokens'}, and no token was let out"
            streams.given_back(what, partial(_listens, reader, decoding))
            streams.closed(decoding)
            assert decoding.closed, Failure(
                f"{what}: the slot is free, but `generate` of the decoder is not closed",
                "`generate` is closed: its tokens have no reader any more",
                "Cancel the task that iterates it; `async with aclosing(decoder.generate(...)) as tokens:`.",
                streams.where_decoded,
            )


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
            f"{what}, and the app did not return", "the app returns", AT_ANY_TURN, streams.where_decoded
        )
        streams.given_back(what, RELEASE)


def while_it_waits(streams: Streams) -> None:
    """Of three that come, with one slot, the second leaves: it is never decoded for, and the third is."""
    for way, leave in WAYS.items():
        first, second, third = (_after(streams, number) for number in range(3))
        streams.let_out(first)
        leave(second)
        if way == LEFT:
            streams.ended(second)  # one that looks from time to time; another looks when its turn has come
        streams.app.settle()
        streams.end(first)
        streams.let_out(third)
        assert not streams.probe.of(second.prompt), Failure(
            f"{way} while the stream waited for a slot, and it was still decoded when the slot came",
            "the slot goes to the next stream whose reader is still there",
            LOOK,
            streams.where_acquired,
        )
        streams.end(third)
        streams.given_back("all had ended or left", RELEASE)


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
        streams.given_back(f"step {step + 1} ({deed}): {len(alive)} streams are alive", RELEASE, held)
        _decoded_are_alive(streams, alive, held)
    for one in alive:
        one.pending.leave()
    streams.given_back("all had left", RELEASE)
    return STEPS


def _decoded_are_alive(streams: Streams, alive: list[Reader], held: int) -> None:
    """Those who are decoded for are still there, and they are as many as hold a slot."""
    prompts = {one.prompt for one in alive}

    def decoded(*, there: bool) -> int:
        return sum(call.asks and (call.prompt in prompts) == there for call in streams.probe.decodings)

    streams.until(lambda: decoded(there=True) == held and not decoded(there=False))
    dead, count = decoded(there=False), decoded(there=True)
    assert not dead, Failure(
        f"{dead} streams are decoded though their readers have left", "no such stream", LOOK, streams.where_acquired
    )
    assert count == held, Failure(
        f"{held} slots are held, and {count} streams are decoded",
        "one stream is decoded for each slot that is held",
        NO_LOCK,
        streams.where_decoded,
    )
