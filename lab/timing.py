"""Latency, measured where the service answers: percentiles, windows, the middleware, and the stages of a request."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Summary = dict[str, float | None]
"""`count`, and `min_ms`, `avg_ms`, `max_ms`, `p50_ms`, `p95_ms`, `p99_ms`."""

NOT_COUNTED = ("/health", "/metrics")
"""Paths that machines request all the time: their latencies would hide those of the users' requests."""


def percentile(samples: Sequence[float], q: float) -> float:
    """The nearest-rank percentile: the sample of rank ceil(q * n / 100), counted from 1, in ascending order of all n.

    It is always one of the samples: q = 0 is the minimum, q = 100 the maximum. Samples may come in any order and are
    not changed. A ValueError for no samples, and for q outside of 0..100. The rank must be exact for every whole q.

    >>> percentile([30, 10, 20, 50, 40, 60, 70, 80, 90, 100], 95)  # rank ceil(9.5) = 10
    100
    """
    raise NotImplementedError("2.1: percentile")


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
        raise NotImplementedError("2.2: LatencyWindow")

    def record(self, seconds: float) -> None:
        """Add one latency, in the same short time whatever the size: this runs in every request."""
        raise NotImplementedError("2.2: LatencyWindow.record")

    def summary(self) -> Summary:
        """`count` over all time; `min_ms`, `avg_ms`, `max_ms`, `p50_ms`, `p95_ms`, `p99_ms` of the samples it holds.

        In ms, to 0.01 or finer. While there is no sample, `count` is 0 and all others are None.
        """
        raise NotImplementedError("2.2: LatencyWindow.summary")


def merged_summary(windows: Sequence[LatencyWindow]) -> Summary:
    """The summary of several workers' windows together: counts are added, samples are pooled, the windows stay as is.

    It is not the average of their summaries: the average of two p99s is not a p99.
    """
    raise NotImplementedError("2.10: merged_summary")


class Metrics:
    """What `GET /metrics` reports, collected request by request. `record` only stores; `report` computes."""

    def __init__(self, window: int = 1000) -> None:
        """Start without routes. Each route, and each of its stages, gets a `LatencyWindow` of this size."""
        raise NotImplementedError("2.4: Metrics")

    def record(self, route: str, status: int, seconds: float, stages: dict[str, float]) -> None:
        """Add one answered request: `"POST /predict"`, 200, its latency, and the seconds of each of its stages."""
        raise NotImplementedError("2.4: Metrics.record")

    def report(self) -> dict[str, Any]:
        """All that was recorded, in ms.

        >>> Metrics().report()
        {'in_flight': 0, 'routes': {}}

        A route in it: `"POST /predict": {<summary>, "status": {"2xx": 3}, "stages": {"model": {<summary>}}}`. The
        middleware keeps `in_flight`: how many requests are between their start and their end at this moment. Requests
        to a path in `NOT_COUNTED`, such as GET /metrics itself, are not among them.
        """
        raise NotImplementedError("2.4: Metrics.report")


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
        raise NotImplementedError("2.4: TimingMiddleware")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Time one request, from this call to the moment when its last byte is handed to `send`.

        The header goes out with the first message and holds the time until then. A request is recorded once, under its
        route's template (`lab.routes.route_template`), unless the path is in `NOT_COUNTED`. An exception before the
        last byte makes it a 500. An exception after that, in a background task, changes nothing: the request keeps the
        status that was sent. Every exception is raised again. A cancelled request is not recorded. Whatever happens,
        `in_flight` loses a request exactly once.
        """
        raise NotImplementedError("2.4: TimingMiddleware")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one part of the current request, in a coroutine or on a thread; outside of any request it does nothing.

    The times of a stage that a request enters more than once are added up. One that ends in an exception counts, too.
    The name is one word, as the header needs it.

    >>> with stage("model"):
    ...     prediction = 3.0
    """
    raise NotImplementedError("2.4: stage")


def bottleneck(metrics: dict[str, Any], route: str) -> str | None:
    """The stage that takes the largest share of a route's time, given what `GET /metrics` answers.

    The share is the total time, mean times count. It is not the largest maximum, which may be that of one slow request,
    nor the largest mean, which may be that of a stage that few requests enter. None for a route without stages.
    """
    raise NotImplementedError("2.12: bottleneck")
