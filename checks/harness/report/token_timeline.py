"""The evidence of streamed answers: a row per stream, and goodput over the offered load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from checks.harness.load.streams import Stream, gaps, mean_gap, tpot, ttft
from checks.harness.load.trace import MS
from checks.harness.report.spread import TIMELINE_ROWS, spread

STALL = 2.0
"""A gap between two tokens is a stall when it is longer than so many times the stream's mean gap."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One stream, in ms after the first was due.

    `ttft` and `tpot` are None where there is none. `stalls` are the numbers of the tokens, from 0, behind which the
    next one was long in coming.
    """

    due: float
    tokens: list[float]
    end: float
    how: Literal["finished", "refused", "failed"]
    ttft: float | None
    tpot: float | None
    stalls: list[int]


@dataclass(frozen=True, slots=True)
class TokenTimeline:
    """A row per stream, a tick per token. `left_out` counts the streams that have no row, `note` is for the reader."""

    title: str
    rows: list[TokenRow]
    left_out: int = 0
    note: str = ""
    unit: str = "ms"
    kind: Literal["tokens"] = "tokens"


@dataclass(frozen=True, slots=True)
class OfferedStreams:
    """A load of `times` the capacity, in streams/s: sent, finished, and of use.

    p95 in ms of those that were not refused; None where it is infinite, or there is none.
    """

    times: float
    sent: float
    finished: float
    goodput: float
    ttft_p95_ms: float | None
    tpot_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class TokenGoodput:
    """Goodput under two limits over the offered load. `capacity` is what the slots can decode in streams/s."""

    title: str
    points: list[OfferedStreams]
    capacity: float
    ttft_ms: float
    tpot_ms: float
    kind: Literal["goodput"] = "goodput"


def token_timeline(streams: Sequence[Stream], title: str, note: str = "") -> TokenTimeline:
    """A row for each stream; of more than 64 an even spread is kept. Times come out in ms after the first was due."""
    kept = spread(streams, TIMELINE_ROWS)
    origin = min((stream.scheduled for stream in streams), default=0.0)
    return TokenTimeline(title, [_row(stream, origin) for stream in kept], len(streams) - len(kept), note)


def _row(stream: Stream, origin: float) -> TokenRow:
    def ms(moment: float) -> float:
        return round((moment - origin) * MS, 2)

    mean = mean_gap(stream) or 0.0
    return TokenRow(
        ms(stream.scheduled),
        [*map(ms, stream.tokens)],
        ms(stream.ended),
        "finished" if stream.finished is not None else "refused" if stream.refused else "failed",
        in_ms(ttft(stream)),
        in_ms(tpot(stream)),
        [n for n, gap in enumerate(gaps(stream)) if gap > STALL * mean],
    )


def in_ms(seconds: float | None) -> float | None:
    """For a report, which has no word for infinite: None, as where there is nothing."""
    return None if seconds is None or math.isinf(seconds) else round(seconds * MS, 3)
