"""What a checkpoint shows beside its verdict: the number that decided it, and the data of pictures."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from checks.harness.errors import printable
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import MS
from checks.harness.report.batches import BatchLaw, BatchTimeline
from checks.harness.report.spread import TIMELINE_ROWS, spread
from checks.harness.report.token_timeline import TokenGoodput, TokenTimeline

HISTOGRAM_BUCKETS = 12
LOG_SPACED_ABOVE = 20


@dataclass(frozen=True, slots=True)
class Number:
    """The number that decided the verdict, in words of at most 40 characters or so, and alone."""

    text: str
    value: float
    kind: Literal["number"] = "number"


@dataclass(frozen=True, slots=True)
class Span:
    """One request in a timeline, in ms: it waits from `wait` to `work`, and is worked on from `work` to `end`.

    `how` is "failed" for one that got no answer until `end`.
    """

    label: str
    wait: float
    work: float
    end: float
    how: Literal["answered", "failed"] = "answered"


@dataclass(frozen=True, slots=True)
class Timeline:
    """A row per request. `left_out` counts the requests that have no row, `note` says what a reader must know."""

    title: str
    rows: list[Span]
    left_out: int = 0
    note: str = ""
    unit: str = "ms"
    kind: Literal["timeline"] = "timeline"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A range of latencies in ms, `low` included, `high` not, and how many requests were in it."""

    low: Annotated[float, Field(alias="from")]
    high: Annotated[float, Field(alias="to")]
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many requests took how long, with percentiles in ms: None without samples."""

    title: str
    buckets: list[Bucket]
    p50: float | None
    p95: float | None
    p99: float | None
    count: int
    unit: str = "ms"
    kind: Literal["histogram"] = "histogram"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns side by side; cells are shown as they are."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Point:
    """Throughput and p95 at a number of users."""

    users: int
    requests_per_second: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class HockeyStick:
    """Throughput and p95 over users: flat and rising, where the service breaks.

    `capacity` is what the target can answer in requests/s; `found` and `true` are users at the breaking point.
    """

    title: str
    points: list[Point]
    slo_ms: float
    capacity: float
    found: int | None
    true: int | None
    kind: Literal["curve"] = "curve"


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a load: requests/s answered in time, and p95 in ms of those let in, None where callers gave up."""

    goodput: float
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Offered:
    """A load of `times` the capacity: `sent` requests/s for `lasted` seconds, with admission control and without it."""

    times: float
    sent: float
    lasted: float
    limited: Served
    unlimited: Served


@dataclass(frozen=True, slots=True)
class Overload:
    """Goodput and p95 over the offered load.

    `capacity` is what the model can serve in requests/s. An answer is of use within `in_time_ms`; callers give up after
    `gave_up_ms`.
    """

    title: str
    points: list[Offered]
    capacity: float
    in_time_ms: float
    gave_up_ms: float
    kind: Literal["overload"] = "overload"


Evidence = Annotated[
    Number
    | Timeline
    | Histogram
    | Table
    | HockeyStick
    | Overload
    | TokenTimeline
    | TokenGoodput
    | BatchTimeline
    | BatchLaw,
    Field(discriminator="kind"),
]


class Show:
    """Collects the evidence of one checkpoint, and the learner's line for a failure that names none."""

    def __init__(self) -> None:
        self.evidence: list[Evidence] = []
        self.where: str | None = None

    def number(self, text: str, value: float) -> None:
        """The number that decides, in words of at most 40 characters or so."""
        self.evidence.append(Number(printable(text), value))

    def picture(self, evidence: Evidence) -> None:
        """A `timeline`, a `histogram`, or any other evidence that is drawn."""
        self.evidence.append(evidence)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Columns side by side."""
        self.evidence.append(Table(title, [*columns], [[printable(str(cell)) for cell in row] for row in rows]))

    def at(self, where: str | None) -> None:
        """The learner's line that matters, where no exception has one."""
        self.where = where or self.where


def timeline(rows: Sequence[tuple[str, float, float | None, float | None]], title: str, note: str = "") -> Timeline:
    """A row per request: waiting from `sent` to `work`, working from `work` to `end`.

    `rows` are (label, sent, work started, finished) in seconds of one clock; a work start of None draws the whole row
    as working. One that got no answer has no end (None): its row goes on to the last time of all. Times come out in ms
    after the earliest `sent`. Of more than 64 rows an even spread is kept; `left_out` counts the others. `note` says
    what a reader must know of the times.
    """
    kept = spread(rows, TIMELINE_ROWS)
    origin = min((sent for _, sent, _, _ in rows), default=0.0)
    last = max((time for row in rows for time in row[1:] if time is not None), default=0.0)

    def ms(moment: float) -> float:
        return round((moment - origin) * MS, 3)

    spans = [
        Span(
            label,
            ms(sent),
            ms(sent if work is None else work),
            ms(last if end is None else end),
            "failed" if end is None else "answered",
        )
        for label, sent, work, end in kept
    ]
    return Timeline(title, spans, left_out=len(rows) - len(kept), note=note)


def histogram(latencies: Iterable[float], title: str) -> Histogram:
    """A histogram of latencies given in seconds: at most 12 buckets, in ms, and p50, p95, p99.

    A bucket counts low <= latency < high, the last one its upper end too. Buckets are equally wide, or equally wide in
    the logarithm when the largest sample is over 20 times the smallest. Equal samples share one bucket. Without
    samples there are no buckets and the percentiles are None.
    """
    samples = sorted(seconds * MS for seconds in latencies)
    edges = _edges(samples)
    counts = Counter(min(bisect_right(edges, sample), len(edges) - 1) for sample in samples)
    p50, p95, p99 = (round(percentile(samples, q), 3) if samples else None for q in (50, 95, 99))
    buckets = [Bucket(round(edges[i - 1], 3), round(edges[i], 3), counts[i]) for i in range(1, len(edges))]
    return Histogram(title, buckets, p50, p95, p99, len(samples))


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
