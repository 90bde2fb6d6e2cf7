"""Latency, measured where the service answers: percentiles, windows, the middleware, and the stages of a request."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Summary = dict[str, float | None]
"""`count`, and `min_ms`, `avg_ms`, `max_ms`, `p50_ms`, `p95_ms`, `p99_ms`."""

NOT_COUNTED = ("/health", "/metrics")
"""Paths that are asked by machines, all the time: their latencies would hide those of the users' requests."""


def percentile(samples: Sequence[float], q: float) -> float:
    """The nearest-rank percentile: the sample of rank ceil(q * n / 100), counted from 1, when all n stand in order.

    It is always one of the samples: q = 0 is the minimum, q = 100 the maximum. Samples may come in any order and are
    not changed. A ValueError for no samples, and for q outside of 0..100. The rank must be exact for every whole q.

    >>> percentile([30, 10, 20, 50, 40, 60, 70, 80, 90, 100], 95)  # rank ceil(9.5) = 10
    100
    """
    raise NotImplementedError("2.1: percentile")


class LatencyWindow:
    """The last `size` latencies of something, and how many there have been over all time.

    >>> window = LatencyWindow(size=2)
    >>> for seconds in (9.0, 0.1, 0.3):  # the spike of 9 s is forgotten by the third
    ...     window.record(seconds)
    >>> window.summary()  # doctest: +NORMALIZE_WHITESPACE
    {'count': 3, 'min_ms': 100.0, 'avg_ms': 200.0, 'max_ms': 300.0, 'p50_ms': 100.0, 'p95_ms': 300.0, 'p99_ms': 300.0}
    """

    def __init__(self, size: int) -> None:
        """Begin empty. However much is recorded, memory for `size` samples is all it may take."""
        raise NotImplementedError("2.2: LatencyWindow")

    def record(self, seconds: float) -> None:
        """Take in one latency, in the same short time whatever the size: this runs in every request."""
        raise NotImplementedError("2.2: LatencyWindow.record")

    def summary(self) -> Summary:
        """`count` over all time; `min_ms`, `avg_ms`, `max_ms`, `p50_ms`, `p95_ms`, `p99_ms` of what the window holds.

        In ms, to 0.01 or finer. While there is no sample all of them are None but the count, which is 0.
        """
        raise NotImplementedError("2.2: LatencyWindow.summary")


def merged_summary(windows: Sequence[LatencyWindow]) -> Summary:
    """The summary of several workers' windows together: counts added, samples pooled, the windows left as they are.

    Not the average of their summaries: an average of two p99s is the p99 of nothing.
    """
    raise NotImplementedError("2.10: merged_summary")


class Metrics:
    """What `GET /metrics` tells, collected request by request: `report` does the arithmetic, `record` does none."""

    def __init__(self, window: int = 1000) -> None:
        """Begin with nothing. Each route, and each of its stages, gets a `LatencyWindow` of this size."""
        raise NotImplementedError("2.4: Metrics")

    def record(self, route: str, status: int, seconds: float, stages: dict[str, float]) -> None:
        """Take in one answered request: `"POST /predict"`, 200, its latency, and the seconds of each of its stages."""
        raise NotImplementedError("2.4: Metrics.record")

    def report(self) -> dict[str, Any]:
        """What has been recorded, in ms.

        >>> Metrics().report()
        {'in_flight': 0, 'routes': {}}

        A route in it: `"POST /predict": {<summary>, "status": {"2xx": 3}, "stages": {"model": {<summary>}}}`. The
        middleware keeps `in_flight`, the requests inside at this moment: none to a path in `NOT_COUNTED`, so not the
        one that asks.
        """
        raise NotImplementedError("2.4: Metrics.report")


class TimingMiddleware:
    """Times every HTTP request that passes, and tells the caller in `Server-Timing: app;dur=12.3, model;dur=10.1` (ms).

    Pure ASGI: no thread, no task, no buffer between the app and its server. Whatever is not HTTP (the lifespan,
    WebSockets) passes untouched.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        metrics: Metrics | None = None,
        log: Callable[[str, str, int, float], None] | None = None,
    ) -> None:
        """Stand before any ASGI app. Without `metrics` collect into some of its own, without `log` be silent.

        `log("POST", "/predict", 200, 0.1023)` hears of each request that `metrics` records: method and route apart,
        which are one key there.
        """
        raise NotImplementedError("2.4: TimingMiddleware")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Time one request, from here to the moment when its last byte is handed to `send`.

        The header goes out with the first message and holds the time until then. Recorded under the route's template
        (`lab.routes.route_template`), unless the path is in `NOT_COUNTED`. A handler that raises is a 500, and its
        exception travels on; a request that was cancelled counts nowhere. Whatever happens, none stays in flight.
        """
        raise NotImplementedError("2.4: TimingMiddleware")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one part of the current request, in a coroutine or on a thread; outside of any request it does nothing.

    A stage that a request enters more than once adds up, and one that ends in an exception counts, too. The name is one
    word, as `Server-Timing` wants it.

    >>> with stage("model"):
    ...     prediction = 3.0
    """
    raise NotImplementedError("2.4: stage")


def bottleneck(metrics: dict[str, Any], route: str) -> str | None:
    """The stage that takes the largest share of a route's time, given what `GET /metrics` answers.

    Share is total time, mean times count: not the largest maximum, which is one request's bad luck, nor the largest
    mean, which may belong to a stage that hardly any request enters. None for a route that has timed no stage.
    """
    raise NotImplementedError("2.12: bottleneck")
