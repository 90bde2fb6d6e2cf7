"""Latency, measured where the service answers: percentiles, windows, the middleware, and the stages of a request."""

import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lab.routes import route_template

Summary = dict[str, float | None]
"""`count`, and `min_ms`, `avg_ms`, `max_ms`, `p50_ms`, `p95_ms`, `p99_ms`."""

NOT_COUNTED = ("/health", "/metrics")
"""Paths that machines request all the time: their latencies would hide those of the users' requests."""

_stages: ContextVar[list[tuple[str, float]] | None] = ContextVar("stages", default=None)
"""Name and seconds of each stage of the current request, so far. A list: appending to it is safe in a thread, too."""


def percentile(samples: Sequence[float], q: float) -> float:
    """The nearest-rank percentile: the sample of rank ceil(q * n / 100), counted from 1, in ascending order of all n.

    It is always one of the samples: q = 0 is the minimum, q = 100 the maximum. Samples may come in any order and are
    not changed. A ValueError for no samples, and for q outside of 0..100. The rank must be exact for every whole q.

    >>> percentile([30, 10, 20, 50, 40, 60, 70, 80, 90, 100], 95)  # rank ceil(9.5) = 10
    100
    """
    return _nearest_rank(sorted(samples), q)


def _nearest_rank(ordered: Sequence[float], q: float) -> float:
    if not ordered:
        raise ValueError("a percentile needs at least one sample")
    if not 0 <= q <= 100:
        raise ValueError(f"a percentile is within 0..100, not {q}")
    rank = int(-(-q * len(ordered) // 100))  # rounds up without leaving whole numbers: ceil(7 / 100 * 100) is 8
    return ordered[max(rank, 1) - 1]


class LatencyWindow:
    """The last `size` latencies of a route or stage, and how many there have been over all time.

    >>> window = LatencyWindow(size=2)
    >>> for seconds in (9.0, 0.1, 0.3):  # the spike of 9 s is forgotten by the third
    ...     window.record(seconds)
    >>> window.summary()  # doctest: +NORMALIZE_WHITESPACE
    {'count': 3, 'min_ms': 100.0, 'avg_ms': 200.0, 'max_ms': 300.0, 'p50_ms': 100.0, 'p95_ms': 300.0, 'p99_ms': 300.0}
    """

    def __init__(self, size: int) -> None:
        """Start without samples. However many are recorded, the window takes memory for `size` samples at most."""
        self._size = size
        self._count = 0
        self._samples = array("d")  # 8 bytes a sample, where a float object takes 24 and its reference 8

    def record(self, seconds: float) -> None:
        """Add one latency, in the same short time whatever the size: this runs in every request."""
        if len(self._samples) < self._size:
            self._samples.append(seconds)
        else:
            self._samples[self._count % self._size] = seconds
        self._count += 1

    def summary(self) -> Summary:
        """`count` over all time; `min_ms`, `avg_ms`, `max_ms`, `p50_ms`, `p95_ms`, `p99_ms` of the samples it holds.

        In ms, to 0.01 or finer. While there is no sample, `count` is 0 and all others are None.
        """
        return _summary(self._samples, self._count)


def _summary(samples: Iterable[float], count: int) -> Summary:
    ordered = sorted(samples)
    if not ordered:
        return {"count": count, **dict.fromkeys(("min_ms", "avg_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms"))}
    seconds = {
        "min_ms": ordered[0],
        "avg_ms": sum(ordered) / len(ordered),
        "max_ms": ordered[-1],
        "p50_ms": _nearest_rank(ordered, 50),
        "p95_ms": _nearest_rank(ordered, 95),
        "p99_ms": _nearest_rank(ordered, 99),
    }
    return {"count": count} | {name: round(value * 1000, 3) for name, value in seconds.items()}


def merged_summary(windows: Sequence[LatencyWindow]) -> Summary:
    """The summary of several workers' windows together: counts are added, samples are pooled, the windows stay as is.

    It is not the average of their summaries: the average of two p99s is not a p99.
    """
    return _summary((sample for window in windows for sample in window._samples), sum(w._count for w in windows))


class Metrics:
    """What `GET /metrics` reports, collected request by request. `record` only stores; `report` computes."""

    def __init__(self, window: int = 1000) -> None:
        """Start without routes. Each route, and each of its stages, gets a `LatencyWindow` of this size."""
        self.in_flight = 0
        self._latencies: defaultdict[str, LatencyWindow] = defaultdict(lambda: LatencyWindow(window))
        self._statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._stages: defaultdict[str, defaultdict[str, LatencyWindow]] = defaultdict(
            lambda: defaultdict(lambda: LatencyWindow(window))
        )

    def record(self, route: str, status: int, seconds: float, stages: dict[str, float]) -> None:
        """Add one answered request: `"POST /predict"`, 200, its latency, and the seconds of each of its stages."""
        self._latencies[route].record(seconds)
        self._statuses[route][f"{status // 100}xx"] += 1
        for name, spent in stages.items():
            self._stages[route][name].record(spent)

    def report(self) -> dict[str, Any]:
        """All that was recorded, in ms.

        >>> Metrics().report()
        {'in_flight': 0, 'routes': {}}

        A route in it: `"POST /predict": {<summary>, "status": {"2xx": 3}, "stages": {"model": {<summary>}}}`. The
        middleware keeps `in_flight`: how many requests are between their start and their end at this moment. Requests
        to a path in `NOT_COUNTED`, such as GET /metrics itself, are not among them.
        """
        return {
            "in_flight": self.in_flight,
            "routes": {
                route: {
                    **window.summary(),
                    "status": dict(self._statuses[route]),
                    "stages": {name: stage.summary() for name, stage in self._stages[route].items()},
                }
                for route, window in self._latencies.items()
            },
        }


class TimingMiddleware:
    """Times every HTTP request; the answer says it in `Server-Timing: app;dur=12.3, model;dur=10.1` (ms).

    Pure ASGI: no thread, no task, no buffer between the app and its server. Whatever is not HTTP (the lifespan,
    WebSockets) passes untouched.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        metrics: Metrics | None = None,
        log: Callable[[str, str, int, float], None] | None = None,
    ) -> None:
        """Wrap any ASGI app. Without `metrics` it collects into a `Metrics` of its own; without `log` it logs nothing.

        `log("POST", "/predict", 200, 0.1023)` is called for each request that `metrics` records. Method and route are
        two arguments here, and one key there.
        """
        self.app = app
        self.metrics = metrics or Metrics()
        self.log = log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Time one request, from this call to the moment when its last byte is handed to `send`.

        The header goes out with the first message and holds the time until then. A request is recorded once, under its
        route's template (`lab.routes.route_template`), unless the path is in `NOT_COUNTED`. An exception before the
        last byte makes it a 500. An exception after that, in a background task, changes nothing: the request keeps the
        status that was sent. Every exception is raised again. A cancelled request is not recorded. Whatever happens,
        `in_flight` loses a request exactly once.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        stages: list[tuple[str, float]] = []
        status = 500  # what the server answers for an app that says nothing
        in_flight = scope["path"] not in NOT_COUNTED
        self.metrics.in_flight += in_flight

        def end(status: int | None) -> None:
            """Leave, once; without a status the request does not count."""
            nonlocal in_flight
            if in_flight:
                in_flight = False
                self.metrics.in_flight -= 1
                if status:
                    self._tell(scope, status, time.perf_counter() - started, _added_up(stages))

        async def timed_send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                timing = _server_timing({"app": time.perf_counter() - started} | _added_up(stages))
                message = {**message, "headers": [*message.get("headers", ()), (b"server-timing", timing)]}
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                end(status)  # before the last byte leaves: GET /metrics may follow at once
            await send(message)

        token = _stages.set(stages)
        try:
            await self.app(scope, receive, timed_send)
            end(status)
        except Exception:
            end(500)
            raise
        finally:
            end(None)
            _stages.reset(token)

    def _tell(self, scope: Any, status: int, seconds: float, stages: dict[str, float]) -> None:
        route = route_template(scope)
        self.metrics.record(f"{scope['method']} {route}", status, seconds, stages)
        if self.log:
            self.log(scope["method"], route, status, seconds)


def _added_up(stages: Iterable[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, seconds in stages:
        total[name] = total.get(name, 0.0) + seconds
    return total


def _server_timing(durations: dict[str, float]) -> bytes:
    return ", ".join([f"{name};dur={seconds * 1000:.1f}" for name, seconds in durations.items()]).encode()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one part of the current request, in a coroutine or on a thread; outside of any request it does nothing.

    The times of a stage that a request enters more than once are added up. One that ends in an exception counts, too.
    The name is one word, as the header needs it.

    >>> with stage("model"):
    ...     prediction = 3.0
    """
    started = time.perf_counter()
    try:
        yield
    finally:
        stages = _stages.get()
        if stages is not None:
            stages.append((name, time.perf_counter() - started))


def bottleneck(metrics: dict[str, Any], route: str) -> str | None:
    """The stage that takes the largest share of a route's time, given what `GET /metrics` answers.

    The share is the total time, mean times count. It is not the largest maximum, which may be that of one slow request,
    nor the largest mean, which may be that of a stage that few requests enter. None for a route without stages.
    """
    stages = metrics["routes"][route]["stages"]
    return max(stages, key=lambda name: stages[name]["avg_ms"] * stages[name]["count"], default=None)
