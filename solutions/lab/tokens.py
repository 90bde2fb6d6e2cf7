"""Metrics of a streamed answer: time to the first token, time per token, and both under a limit."""

import math
from collections.abc import Sequence

from lab.records import Stream, Tail, TokenSlo
from lab.timing import percentile


def ttft(stream: Stream) -> float:
    """Time to first token: seconds from when the stream was due until its first token. `math.inf` when none came.

    >>> ttft(Stream(scheduled=10.0, tokens=(10.5, 11.0), finished=11.0))
    0.5
    """
    return stream.tokens[0] - stream.scheduled if stream.tokens else math.inf


def gaps(stream: Stream) -> list[float]:
    """Seconds from each token to the next; none for fewer than two tokens.

    >>> gaps(Stream(scheduled=10.0, tokens=(10.5, 11.0, 12.0), finished=12.0))
    [0.5, 1.0]
    """
    return [later - earlier for earlier, later in zip(stream.tokens, stream.tokens[1:], strict=False)]


def tpot(stream: Stream) -> float | None:
    """Time per output token, after the first: (last token - first token) / (tokens - 1), in seconds.

    `math.inf` for a stream that did not finish. `None` for a finished stream with fewer than two tokens.

    >>> tpot(Stream(scheduled=10.0, tokens=(10.5, 11.0, 12.0), finished=12.0))
    0.75
    """
    if stream.finished is None:
        return math.inf
    if len(stream.tokens) < 2:
        return None
    return (stream.tokens[-1] - stream.tokens[0]) / (len(stream.tokens) - 1)


def goodput(streams: Sequence[Stream], slo: TokenSlo, seconds: float) -> float:
    """Streams per second, of a load of so many `seconds`, that were of use to their readers.

    Such a stream has finished, its first token came in time, and its TPOT is within the limit; the limits are in ms. An
    answer of one token has no TPOT, so it keeps that limit.
    """
    return sum(_is_of_use(stream, slo) for stream in streams) / seconds


def _is_of_use(stream: Stream, slo: TokenSlo) -> bool:
    per_token = tpot(stream)
    in_time = ttft(stream) * 1000 <= slo.ttft_ms
    return stream.finished is not None and in_time and (per_token is None or per_token * 1000 <= slo.tpot_ms)


def tail(streams: Sequence[Stream], q: float) -> Tail:
    """The percentile `q` (nearest rank, as in exercise 2) of TTFT, TPOT and of the gaps between tokens (ITL).

    TTFT: of all streams. TPOT: of all that have one; `math.inf` counts, `None` does not. ITL: of all gaps of all
    streams in one pool. `None` where there are no values: `lab.timing.percentile` needs at least one sample.
    """
    per_token = [value for value in map(tpot, streams) if value is not None]
    between = [gap for stream in streams for gap in gaps(stream)]
    return Tail(_percentile([*map(ttft, streams)], q), _percentile(per_token, q), _percentile(between, q))


def _percentile(samples: Sequence[float], q: float) -> float | None:
    return percentile(samples, q) if samples else None
