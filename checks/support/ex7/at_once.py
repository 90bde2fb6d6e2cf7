"""7.4: each token leaves in the moment in which the decoder gives it, also with many streams side by side."""

from __future__ import annotations

from checks.harness.errors import Failure
from checks.harness.syntax import calls
from checks.support.ex7.streams import NO_LOCK, Reader, Streams

SIDE_BY_SIDE = 20
LETS = 60


def side_by_side(streams: Streams) -> int:
    """Tokens are let out at random streams; each is there before the next is let out. Returns how many there were."""
    readers = [streams.begin(LETS) for _ in range(SIDE_BY_SIDE)]
    streams.until(lambda: _decoding(streams) == SIDE_BY_SIDE or all(one.done for one in readers))
    if _decoding(streams) < SIDE_BY_SIDE:
        streams.asking(readers[0])
        raise AssertionError(
            Failure(
                f"{SIDE_BY_SIDE} slots, {SIDE_BY_SIDE} streams, and the decoder works on {_decoding(streams)} of them",
                "it works on all of them",
                NO_LOCK,
                streams.app.where_locked() or streams.where_decoded,
            )
        )
    for _ in range(LETS):
        one = streams.rng.choice(readers)
        streams.let(one)
        _no_other_has_it(streams, readers, one)
        for reader in (one, *readers):
            streams.has_all(reader)
    for one in readers:
        streams.end(one)
        streams.has_all(one)
    streams.given_back("all streams have ended", "`release`, once, when the last token is decoded.")
    return LETS


def _decoding(streams: Streams) -> int:
    return sum(one.asks for one in streams.probe.decodings)


def _no_other_has_it(streams: Streams, readers: list[Reader], one: Reader) -> None:
    assert not any(one.let_out[-1] in other.tokens for other in readers if other is not one), Failure(
        f"one of {len(readers)} readers has a token of another one's stream",
        "only the tokens of its own stream",
        "Use a queue for each stream, which no other stream shares.",
        streams.lines.where_found(calls("Queue"), "streaming") or streams.where_decoded,
    )
