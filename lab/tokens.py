"""Metrics of a streamed answer: time to the first token, time per token, and both under a limit."""

from collections.abc import Sequence

from lab.records import Stream, Tail, TokenSlo


def ttft(stream: Stream) -> float:
    """Time to first token: seconds from when the stream was due until its first token. `math.inf` when none came.

    >>> ttft(Stream(scheduled=10.0, tokens=(10.5, 11.0), finished=11.0))
    0.5
    """
    raise NotImplementedError("7.1: ttft")


def gaps(stream: Stream) -> list[float]:
    """Seconds from each token to the next; none for fewer than two tokens.

    >>> gaps(Stream(scheduled=10.0, tokens=(10.5, 11.0, 12.0), finished=12.0))
    [0.5, 1.0]
    """
    raise NotImplementedError("7.1: gaps")


def tpot(stream: Stream) -> float | None:
    """Time per output token, after the first: (last token - first token) / (tokens - 1), in seconds.

    `math.inf` for a stream that did not finish. `None` for a finished stream with fewer than two tokens.

    >>> tpot(Stream(scheduled=10.0, tokens=(10.5, 11.0, 12.0), finished=12.0))
    0.75
    """
    raise NotImplementedError("7.1: tpot")


def goodput(streams: Sequence[Stream], slo: TokenSlo, seconds: float) -> float:
    """Streams per second, of a load of so many `seconds`, that were of use to their readers.

    Such a stream has finished, its first token came in time, and its TPOT is within the limit; the limits are in ms. An
    answer of one token has no TPOT, so it keeps that limit.
    """
    raise NotImplementedError("7.2: goodput")


def tail(streams: Sequence[Stream], q: float) -> Tail:
    """The percentile `q` (nearest rank, as in exercise 2) of TTFT, TPOT and of the gaps between tokens (ITL).

    TTFT: of all streams. TPOT: of all that have one; `math.inf` counts, `None` does not. ITL: of all gaps of all
    streams in one pool. `None` where there are no values: `lab.timing.percentile` needs at least one sample.
    """
    raise NotImplementedError("7.2: tail")
