"""Given: the results of load tests. Times are in seconds, except where a name ends in `_ms`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One plateau of a load test: so many users at once, and what was measured.

    `requests_per_second` counts everything that was answered, failures among them; `failure_ratio` is 0.0 to 1.0.
    `pace_seconds` is the time from one request's start to the next of the same user; 0.0 is a closed loop, in which a
    user sends again at once.
    """

    users: int
    requests_per_second: float
    mean_ms: float
    p95_ms: float
    failure_ratio: float
    pace_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request of an open loop: when it was due, when it was sent, when its answer was there (`None`: never)."""

    scheduled: float
    sent: float
    finished: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """A service under load: its configuration, requests/s offered, and requests/s that were answered well."""

    workers: int
    threads: int
    offered: float
    goodput: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed answer: when it was due, when each of its tokens came, when it had ended as it should.

    `finished` is `None` for a stream that did not: it was refused, or broken off.
    """

    scheduled: float
    tokens: tuple[float, ...]
    finished: float | None


@dataclass(frozen=True, slots=True)
class TokenSlo:
    """Limits of a streamed answer. A value that is equal to its limit keeps it."""

    ttft_ms: float
    tpot_ms: float


@dataclass(frozen=True, slots=True)
class Tail:
    """A percentile of each kind of latency, in seconds; `None` where there are no values."""

    ttft: float | None
    tpot: float | None
    itl: float | None
