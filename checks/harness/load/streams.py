"""What a load of streamed answers gave: the moments of each token, and TTFT, TPOT, ITL and goodput.

The definitions are those of `lab/tokens.py`; they are said there.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from checks.harness.load.event_stream import placed
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import MS, Request


class Timed(Protocol):
    """When a stream was due, when each of its tokens came, when it ended as it should: seconds of one clock."""

    @property
    def scheduled(self) -> float:
        """When it was due."""

    @property
    def tokens(self) -> tuple[float, ...]:
        """When each of its tokens came."""

    @property
    def finished(self) -> float | None:
        """When it had ended as it should, None where it did not."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed answer. `ended` is when its reader had all of it, or gave it up; `status` is 0 before a head."""

    scheduled: float
    tokens: tuple[float, ...]
    finished: float | None
    ended: float
    status: int
    error: str | None = None

    @property
    def refused(self) -> bool:
        """Whether a whole answer came that says no."""
        return self.error == "refused"


@dataclass(frozen=True, slots=True)
class Tail:
    """A percentile of each kind of latency, in seconds; None where there is nothing to take it of."""

    ttft: float | None
    tpot: float | None
    itl: float | None


def stream_of(request: Request) -> Stream:
    """A request whose pieces were kept, as a stream: a token came when the piece came that ended its event.

    It has finished when the last event of a whole 200 is `done`.
    """
    came = [moment for moment, _ in request.pieces]
    sizes = [*accumulate(len(piece) for _, piece in request.pieces)]
    found = [*placed(b"".join(piece for _, piece in request.pieces))] if request.status == 200 else []
    tokens = tuple(came[bisect_left(sizes, end)] for event, end in found if not event.name)
    last = found[-1][0].name if found else ""
    error = request.error
    if request.refused:
        error = "refused"
    elif not error and request.status != 200:
        error = f"status {request.status}"
    elif not error and last != "done":
        error = "an error event" if last == "error" else "no event `done` at the end"
    ended = request.finished or request.gave_up or request.scheduled
    return Stream(request.scheduled, tokens, None if error else request.finished, ended, request.status or 0, error)


def ttft(stream: Timed) -> float:
    """Seconds from when it was due to its first token; infinite when none came."""
    return stream.tokens[0] - stream.scheduled if stream.tokens else math.inf


def gaps(stream: Timed) -> list[float]:
    """Seconds from each token to the next."""
    return [later - earlier for earlier, later in pairwise(stream.tokens)]


def tpot(stream: Timed) -> float | None:
    """Seconds per token after the first: infinite when it did not finish, None when it did with fewer than two."""
    return math.inf if stream.finished is None else mean_gap(stream)


def mean_gap(stream: Timed) -> float | None:
    """Seconds per token after the first of what came; None for fewer than two tokens."""
    many = len(stream.tokens) - 1
    return (stream.tokens[-1] - stream.tokens[0]) / many if many > 0 else None


def good(stream: Timed, ttft_ms: float, tpot_ms: float) -> bool:
    """Whether it finished and kept both limits. A value equal to a limit keeps it."""
    per_token = tpot(stream)
    in_time = ttft(stream) * MS <= ttft_ms
    return stream.finished is not None and in_time and (per_token is None or per_token * MS <= tpot_ms)


def tail(streams: Sequence[Timed], q: float) -> Tail:
    """The percentile of the TTFT of all, of the TPOT of all that have one, and of all gaps in one pool."""
    per_token = [value for value in map(tpot, streams) if value is not None]
    between = [gap for stream in streams for gap in gaps(stream)]
    return Tail(*(percentile(each, q) if each else None for each in ([*map(ttft, streams)], per_token, between)))
