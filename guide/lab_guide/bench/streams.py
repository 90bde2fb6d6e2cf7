"""What a load of streams came to: TTFT, TPOT, ITL, goodput, slots held, and a row for each stream."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from checks.harness.errors import printable
from checks.harness.load.percentiles import percentile
from checks.harness.load.streams import Stream, good, stream_of, tail, ttft
from checks.harness.load.trace import MS
from checks.harness.report.spread import TIMELINE_ROWS, spread
from checks.harness.report.token_timeline import OfferedStreams, in_ms
from lab_guide.bench.answers import KEPT_ROWS, Row, Told, drawn, lag_p99_ms
from lab_guide.bench.loads import Part, more

KEPT_NUMBERS = 200_000
"""Tokens and times that a run keeps; of longer streams it keeps fewer."""


@dataclass(frozen=True, slots=True)
class Read:
    """A part, and its streams."""

    part: Part
    streams: list[Stream]

    @property
    def good(self) -> int:
        """How many were of use."""
        return sum(good(stream, self.part.plan.ttft_ms, self.part.plan.tpot_ms) for stream in self.streams)

    @property
    def lasted(self) -> float:
        """Seconds until the last stream had ended, which all rates are taken over, as AIPerf and vLLM do."""
        started = self.part.trace.started
        return max((stream.ended for stream in self.streams), default=started) - started


def counted(parts: Sequence[Part]) -> Told:
    """The numbers of a load, or of some one after the other, and its rows."""
    read = [Read(part, [*map(stream_of, part.trace.requests)]) for part in parts]
    streams = [stream for one in read for stream in one.streams]
    most = max(TIMELINE_ROWS, min(KEPT_ROWS, KEPT_NUMBERS // (3 + parts[0].plan.max_tokens)))
    kept = spread(streams, most)
    return {
        "measured": numbers(read[0]) if len(read) == 1 else _together(read),
        "rows": rows(kept, parts[0].trace.started),
        "left_out": len(streams) - len(kept),
    }


def numbers(read: Read) -> Told:
    """What is compared with a prediction, in its units. `never` names what is infinite: it is None in its place."""
    found = {q: asdict(tail(read.streams, q)) for q in (50, 95, 99)}
    tails = {name: {f"p{q}": in_ms(found[q][name]) for q in found} for name in ("ttft", "tpot", "itl")}
    never = [f"{name}_p{q}_ms" for name in tails for q in found if found[q][name] == math.inf]
    lasted, part = read.lasted, read.part
    ends = [stream.ended for stream in read.streams if stream.finished is not None]
    first = [value for value in map(ttft, read.streams) if value != math.inf]
    return _counts(read.streams) | {
        "seconds": round(lasted, 3),
        "last_s": round(max(ends) - part.trace.started, 4) if ends else None,
        "per_second": _rate(len(ends), lasted),
        "goodput": _rate(read.good, lasted),
        "slots_held": _rate(sum(_held(one, part.plan.prefill_seconds) for one in read.streams), lasted),
        "tails": tails,
        "ends": more(part, "streams", "ends"),
        "never": never,
        **{f"{name}_p{q}_ms": tails[name][f"p{q}"] for name in ("ttft", "tpot") for q in (50, 95)},
        "lag_p99_ms": lag_p99_ms(part.trace),
        "histogram": drawn(first, "Time to first token"),
    }


def _held(stream: Stream, prefill_seconds: float) -> float:
    """Seconds for which it held a slot, so far as its tokens tell: the prefill, and from the first to the last."""
    return prefill_seconds + stream.tokens[-1] - stream.tokens[0] if stream.tokens else 0.0


def _together(parts: Sequence[Read]) -> Told:
    """Of some loads: what became of all of their streams, and the goodput of each."""
    points = [_point(one) for one in parts]
    lags = [lag for one in parts for lag in one.part.trace.lags]
    return _counts([stream for one in parts for stream in one.streams]) | {
        **{f"goodput_{point.times:g}x": point.goodput for point in points},
        "points": [asdict(point) for point in points],
        "lag_p99_ms": round(percentile(lags, 99) * MS, 3) if lags else None,
    }


def _point(read: Read) -> OfferedStreams:
    found, lasted = tail([stream for stream in read.streams if not stream.refused], 95), read.lasted
    finished = sum(stream.finished is not None for stream in read.streams)
    sent = _rate(len(read.streams), read.part.plan.seconds)
    return OfferedStreams(
        read.part.times,
        sent,
        _rate(finished, lasted),
        _rate(read.good, lasted),
        in_ms(found.ttft),
        in_ms(found.tpot),
    )


def rows(streams: Sequence[Stream], started: float) -> list[Row]:
    """A row for each stream: when it was due and had ended, in ms, its status (0: it did not finish), its tokens."""

    def ms(moment: float) -> float:
        return round((moment - started) * MS, 2)

    return [
        [ms(one.scheduled), ms(one.ended), one.status if one.refused or not one.error else 0, *map(ms, one.tokens)]
        for one in streams
    ]


def how(stream: Stream) -> str:
    """What became of a stream."""
    return "refused" if stream.refused else "failed" if stream.error else "answered"


def _counts(streams: Sequence[Stream]) -> Told:
    errors = Counter(stream.error for stream in streams if stream.error and not stream.refused)
    kinds = Counter(map(how, streams))
    return {
        "requests": len(streams),
        "answered": kinds["answered"],
        "refused": kinds["refused"],
        "failed": {printable(words): count for words, count in errors.items()},
    }


def _rate(count: float, seconds: float) -> float:
    return round(count / seconds, 3) if seconds else 0.0
