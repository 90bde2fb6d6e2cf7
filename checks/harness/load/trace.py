"""The numbers of recorded requests, and the data of the pictures drawn from them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MS = 1000.0
TIMELINE_ROWS = 12
HISTOGRAM_BUCKETS = 12
LOG_SPACED_ABOVE = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What happened to one request; every time is `time.perf_counter()` of the client, in seconds.

    `connection` numbers the TCP connection that carried it (-1: none did). `status` is None before an answer,
    `error` says in plain words why there is no whole answer. `finished` is when the answer's last byte came, None
    without a whole answer; `gave_up` is then when the client dropped the request.
    """

    scheduled: float
    sent: float | None
    finished: float | None
    status: int | None
    error: str | None
    connection: int
    body: bytes | None = None
    gave_up: float | None = None

    @property
    def latency(self) -> float | None:
        """Seconds from the *scheduled* time to the last byte, whatever the status; None when it never finished.

        Counting from `sent` would leave out the wait that a stalled server causes before sending: coordinated
        omission (Gil Tene, "How NOT to Measure Latency", 2013).
        """
        return None if self.finished is None else self.finished - self.scheduled

    @property
    def ok(self) -> bool:
        """Whether a whole answer with status 200 came."""
        return self.status == 200 and self.error is None


@dataclass(frozen=True, slots=True)
class Trace:
    """All requests of one load, by order of their schedule, from `started` to `ended` (`time.perf_counter()` seconds).

    `lags` are the generator's own delays in seconds, one per request: how long after its scheduled time the generator
    woke up to dispatch it. A closed loop has no schedule, so no lags.
    """

    requests: tuple[Request, ...]
    started: float
    ended: float
    lags: tuple[float, ...] = ()

    @property
    def answered(self) -> tuple[Request, ...]:
        """The requests that are `ok`: refusals and errors are no answers, however fast they came; `errors` has them."""
        return tuple(request for request in self.requests if request.ok)

    @property
    def errors(self) -> Counter[str]:
        """How often each thing went wrong, in plain words; with `answered` it adds up to all requests."""
        return Counter(r.error or f"status {r.status}" for r in self.requests if not r.ok)

    def latencies(self) -> list[float]:
        """Seconds from scheduled to finished of each answered request."""
        return [request.latency for request in self.answered if request.latency is not None]

    @property
    def throughput(self) -> float:
        """Answered requests per second, from `started` to the last finish; 0.0 without an answer or without time."""
        finishes = [request.finished for request in self.answered if request.finished is not None]
        seconds = max(finishes, default=self.started) - self.started
        return len(finishes) / seconds if seconds > 0 else 0.0


def percentile(samples: Iterable[float], q: float) -> float:
    """The q-th percentile by nearest rank: the least sample that at least q % of all samples do not exceed.

    Rank ceil(q/100 * n), counted from 1, in exact arithmetic; q=0 is the minimum, q=100 the maximum. The definition is
    Hyndman & Fan's 1 ("Sample Quantiles in Statistical Packages", 1996), the inverse of the empirical distribution.

    Raises:
        ValueError: no samples, or q not within 0..100.

    """
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("a percentile needs at least one sample")
    if not 0 <= q <= 100:
        raise ValueError(f"a percentile is within 0..100, not {q}")
    # Through str, 99.9 is 999/10 and not the binary fraction next to it.
    rank = math.ceil(Fraction(str(q)) * len(ordered) / 100)
    return ordered[max(rank, 1) - 1]


def other_percentiles(samples: Sequence[float], q: int) -> dict[str, float]:
    """What other ideas of a percentile give for the same samples, each named in words that fit after a number."""
    ordered, n = sorted(samples), len(samples)
    place = (n - 1) * q / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]

    def ranked(rank: int, among: Sequence[float] = ordered) -> float:
        return among[min(max(rank, 1), n) - 1]

    return {
        "the sample of that rank before sorting": ranked(-(-q * n // 100), samples),
        "the sample of rank ceil(q / 100 * n), which floats round up once too often": ranked(math.ceil(q / 100 * n)),
        "`ordered[int(n * q / 100)]`, one rank too far": ranked(int(n * q / 100) + 1),
        "the sample of the rank rounded down": ranked(q * n // 100),
        "the sample of the rank rounded to the nearest": ranked(round(q * n / 100)),
        "interpolated between two samples, as numpy does": below + (above - below) * (place % 1),
        "the mean": math.fsum(samples) / n,
    }


def timeline(rows: Sequence[tuple[str, float, float | None, float]], title: str, note: str = "") -> dict[str, Any]:
    """Evidence for a picture with a row per request: waiting from `wait` to `work`, working from `work` to `end`.

    `rows` are (label, sent, work started, finished) in seconds of one clock; a work start of None draws the whole row
    as working. Times come out in ms after the earliest `sent`. Of more than 12 rows an even spread is kept, the first
    and the last among them; `left_out` counts the others. `note` says what a reader must know of the times.
    """
    last = TIMELINE_ROWS - 1
    kept = rows if len(rows) <= TIMELINE_ROWS else [rows[i * (len(rows) - 1) // last] for i in range(TIMELINE_ROWS)]
    origin = min((sent for _, sent, _, _ in rows), default=0.0)

    def ms(moment: float) -> float:
        return round((moment - origin) * MS, 3)

    return {
        "kind": "timeline",
        "title": title,
        "unit": "ms",
        "rows": [
            {"label": label, "wait": ms(sent), "work": ms(sent if work is None else work), "end": ms(finished)}
            for label, sent, work, finished in kept
        ],
        "left_out": len(rows) - len(kept),
        "note": note,
    }


def histogram(latencies: Iterable[float], title: str) -> dict[str, Any]:
    """Evidence for a histogram of latencies given in seconds: at most 12 buckets, in ms, and p50, p95, p99.

    A bucket counts from <= latency < to, the last one its upper end too. Buckets are equally wide, or equally wide in
    the logarithm when the largest sample is over 20 times the smallest. Equal samples share one bucket. Without
    samples there are no buckets and the percentiles are None.
    """
    samples = sorted(seconds * MS for seconds in latencies)
    edges = _edges(samples)
    counts = Counter(min(bisect_right(edges, sample), len(edges) - 1) for sample in samples)
    return {
        "kind": "histogram",
        "title": title,
        "unit": "ms",
        "buckets": [
            {"from": round(edges[i - 1], 3), "to": round(edges[i], 3), "count": counts[i]} for i in range(1, len(edges))
        ],
        **{f"p{q}": round(percentile(samples, q), 3) if samples else None for q in (50, 95, 99)},
        "count": len(samples),
    }


def _edges(samples: Sequence[float]) -> list[float]:
    if not samples:
        return []
    low, high = samples[0], samples[-1]
    if low == high:
        return [low, high]
    buckets = min(HISTOGRAM_BUCKETS, len(samples))
    if low > 0 and high / low > LOG_SPACED_ABOVE:
        inner = [low * (high / low) ** (i / buckets) for i in range(1, buckets)]
    else:
        inner = [low + (high - low) * i / buckets for i in range(1, buckets)]
    return [low, *inner, high]
