"""What a load test's numbers say: whether they can be true, where the service breaks, and what waiting hides."""

import math
from collections.abc import Sequence

from lab.records import Request, Step

TRUSTED = 0.15
"""How far from Little's law a step may be, as a part of its users."""

MAX_FAILURE_RATIO = 0.01
"""How many requests of a good step may fail, as a part of all."""


def littles_law(throughput: float, latency: float) -> float:
    """How many requests are in flight: `throughput` in requests/s, `latency` in seconds (Little, 1961: L = λW).

    >>> littles_law(throughput=80, latency=0.25)
    20.0
    """
    return throughput * latency


def trustworthy(step: Step) -> bool:
    """Whether a step's own numbers agree with each other: users = throughput x seconds from request to request.

    Each user sends a request every `pace_seconds`, or every mean latency where that is longer. A step more than 15 % of
    its users away from that was not measured as planned: the load generator could not keep up, or users came and went.

    >>> trustworthy(Step(users=20, requests_per_second=80, mean_ms=250, p95_ms=400, failure_ratio=0))
    True
    >>> trustworthy(Step(users=20, requests_per_second=8, mean_ms=250, p95_ms=400, failure_ratio=0))
    False
    """
    cycle = max(step.pace_seconds, step.mean_ms / 1000)
    return abs(littles_law(step.requests_per_second, cycle) - step.users) <= TRUSTED * step.users


def find_breaking_point(steps: Sequence[Step], slo_ms: float) -> Step | None:
    """The first step of which it and all later steps are bad; `None` when the last step is good.

    A step is good when its p95 is at most `slo_ms` and at most 1 % of its requests failed. `steps` come in ascending
    users. A bad step before a good one is only a spike, not the breaking point. Throughput alone decides nothing.

    >>> find_breaking_point([Step(4, 40, 100, 120, 0), Step(8, 80, 100, 130, 0), Step(12, 80, 150, 310, 0)], slo_ms=300)
    Step(users=12, requests_per_second=80, mean_ms=150, p95_ms=310, failure_ratio=0, pace_seconds=0.0)
    """
    broken = None
    for step in reversed(steps):
        if step.p95_ms <= slo_ms and step.failure_ratio <= MAX_FAILURE_RATIO:
            break
        broken = step
    return broken


def corrected_latencies(requests: Sequence[Request]) -> list[float]:
    """Seconds from *scheduled* to finished of each request, in the same order; `math.inf` when it was never answered.

    What a request waited before it could be sent is latency, too: counting from `sent` is coordinated omission.

    >>> corrected_latencies([Request(scheduled=1.0, sent=3.0, finished=3.5), Request(2.0, 3.5, None)])
    [2.5, inf]
    """
    return [math.inf if r.finished is None else r.finished - r.scheduled for r in requests]
