"""7.6: a reader who does not read keeps neither its slot nor anybody else."""

from __future__ import annotations

from collections.abc import Callable

from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.support.ex7.streams import OWN_TASK, Reader, Streams

TOKENS = 6
RELEASED = "The slot goes back when the last token is *decoded*, and not when it is read. Once."


def reads_until(streams: Streams, taken: Probe, there: Callable[[], object]) -> None:
    """Take what is sent until this, or until nothing more comes. The message after which it is so stays untaken."""
    moves = True
    while not there() and moves:
        for call in [call for call in taken.calls if call.left is None]:
            taken.release(call)
        moves = _moves_on(streams, taken, len(taken.calls), there)


def _moves_on(streams: Streams, taken: Probe, seen: int, there: Callable[[], object]) -> bool:
    return streams.until(lambda: there() or len(taken.calls) > seen)


class Slow:
    """A stream whose reader has taken the first token, and nothing after it; all tokens are decoded."""

    def __init__(self, streams: Streams) -> None:
        self.streams, self.taken = streams, Probe()
        self.reader = streams.begin(TOKENS, taken=self.taken)
        reads_until(streams, self.taken, lambda: any(call.asks for call in streams.probe.of(self.reader.prompt)))
        streams.let_out(self.reader, "first")
        reads_until(streams, self.taken, lambda: self.reader.tokens)
        for number in range(1, TOKENS):
            self._decodes(number)

    def _decodes(self, number: int) -> None:
        streams = self.streams
        calls = streams.probe.of(self.reader.prompt)
        streams.until(lambda: any(call.asks for call in calls))
        asks = [call for call in calls if call.asks]
        assert asks, Failure(
            f"a reader has not taken token 1, and the decoder was asked for {number} of {TOKENS} tokens: a slow reader "
            "holds the slot",
            "all tokens are decoded meanwhile: max_tokens limits how many wait for the reader",
            OWN_TASK + " The queue needs no bound of its own.",
            streams.where_decoded,
        )
        self.reader.let_out.append(f"token {number}")
        streams.probe.let(asks[0], self.reader.let_out[-1])


def its_slot_is_free(streams: Streams, *, leaves: bool) -> None:
    """The only slot goes to the next, who streams to its end; then the slow one reads all of it, or leaves."""
    slow = Slow(streams)
    streams.given_back(f"all {TOKENS} tokens of a stream were decoded, and its reader has taken one", RELEASED)
    other = streams.begin()
    streams.let_out(other)
    if leaves:
        slow.reader.pending.leave()
        streams.app.settle()
        streams.given_back(
            "a reader left after all its tokens had been decoded, while another stream is decoded", RELEASED, held=1
        )
    for _ in range(2):
        streams.let_out(other)
    streams.probe.end(streams.asking(other))
    streams.ended(other)
    assert other.done, Failure(
        "while one reader is slow, another stream was decoded to its end, but it does not leave the app",
        "a reader waits only for its own stream",
        "No lock around `send`, and no queue that streams share.",
        streams.where_sent(slow.reader),
    )
    other.pending.answer()
    streams.has_all(other)
    if not leaves:
        _reads_on(streams, slow)
    streams.given_back("both streams have ended", RELEASED)
    assert not streams.probe.refused_releases, Failure(
        "a slot was released twice", "each slot is released once", RELEASED, streams.where_released
    )


def _reads_on(streams: Streams, slow: Slow) -> None:
    reader: Reader = slow.reader
    slow.taken.open()
    streams.ended(reader)
    assert reader.done, Failure(
        "a slow reader reads again, and its stream does not end",
        "the reader gets all its tokens, and the stream ends",
        OWN_TASK,
        streams.where_decoded,
    )
    reader.pending.answer()
    missing = len(reader.let_out) - len(reader.tokens)
    assert missing <= 0, Failure(
        f"a reader who was slow has {len(reader.tokens)} of {TOKENS} tokens",
        "every token, when it reads again",
        "Use a queue without a bound. Then `put_nowait` drops nothing.",
        streams.where_decoded,
    )
    streams.has_all(reader)
