"""What happened to the requests of a load, and the numbers of it: percentiles, throughput, errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

MS = 1000.0
REFUSED = (429, 503)
"""Statuses of a refusal: whether it is the right one is not judged here."""


Piece = tuple[float, bytes]
"""When a piece of a body came, and the piece."""


@dataclass(frozen=True, slots=True)
class Request:
    """What happened to one request; every time is `time.perf_counter()` of the client, in seconds.

    `connection` numbers the TCP connection that carried it (-1: none did). `status` is None before an answer,
    `error` says in plain words why there is no whole answer. `finished` is when the answer's last byte came, None
    without a whole answer; `gave_up` is then when the client dropped the request. `pieces` are the body as it came,
    also where it was broken off.
    """

    scheduled: float
    sent: float | None
    finished: float | None
    status: int | None
    error: str | None
    connection: int
    body: bytes | None = None
    gave_up: float | None = None
    pieces: tuple[Piece, ...] = ()

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

    @property
    def refused(self) -> bool:
        """Whether a whole answer came that says no: one of `REFUSED`."""
        return self.status in REFUSED and self.error is None


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
