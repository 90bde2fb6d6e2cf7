"""More load than a service can serve: what of it is answered well, and how fast the rest is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from checks.harness.cell.known_capacity import FORGET
from checks.harness.grading.noise import blame_the_machine_if_busy
from checks.harness.load.generator import closed_loop, open_loop
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import MS, REFUSED, Trace
from checks.harness.machine import fair_clock
from checks.harness.processes.single_requests import FEATURES
from checks.harness.report.evidence import Offered, Overload, Served

IN_TIME = 5
"""Service times within which an answer is of use, counted from when the request was due."""
PATIENCE = 10
"""Service times after which a caller gives up. The service does not hear of it, and works on."""


@dataclass(frozen=True, slots=True)
class Load:
    """What became of a load on a model of `slots` slots of `seconds` each, offered for `lasted` seconds.

    Attributes:
        times: how many times the capacity was offered.
        trace: every request of it.
    """

    slots: int
    seconds: float
    times: float
    lasted: float
    trace: Trace

    @property
    def capacity(self) -> float:
        """Requests/s that the model can serve."""
        return self.slots / self.seconds

    @property
    def offered(self) -> float:
        """Requests/s that were sent."""
        return len(self.trace.requests) / self.lasted

    @property
    def goodput(self) -> float:
        """Requests/s answered with 200 in time, over the length of the schedule."""
        good = [latency for latency in self.trace.latencies() if latency <= IN_TIME * self.seconds]
        return len(good) / self.lasted

    @property
    def p95(self) -> float:
        """Seconds within which 95 % of those who were not refused had their answer; infinite for who gave up."""
        waited = [
            request.latency if request.ok and request.latency is not None else math.inf
            for request in self.trace.requests
            if request.status not in REFUSED
        ]
        return percentile(waited, 95) if waited else math.inf

    @property
    def refusals(self) -> list[float]:
        """Seconds that each refusal took."""
        refused = [r for r in self.trace.requests if r.status in REFUSED]
        return [r.finished - r.sent for r in refused if r.finished is not None and r.sent is not None]

    @property
    def refused_in(self) -> float:
        """The median of `refusals`; infinite when nobody was refused."""
        return median(self.refusals or [math.inf])

    @property
    def others(self) -> list[str]:
        """What became of those that were neither served nor refused, in plain words, apart from those who gave up."""
        expected = [f"status {status}" for status in REFUSED] + [f"no answer within {PATIENCE * self.seconds:g} s"]
        return [words for words in self.trace.errors.elements() if words not in expected]

    @property
    def wrong_statuses(self) -> list[str]:
        """Those of the `others` that got a whole answer: no busy machine is the cause of these."""
        return [f"status {r.status}" for r in self.trace.requests if not (r.ok or r.refused or r.error)]

    @property
    def served(self) -> Served:
        """Goodput and p95 for a picture."""
        return Served(round(self.goodput, 2), round(self.p95 * MS, 3) if math.isfinite(self.p95) else None)


def overload(urls: Sequence[str], *, slots: int, seconds: float, times: float, lasting: float, seed: int) -> list[Load]:
    """Offer several services the same load, at the same time: `times` what their model can serve, Poisson arrivals."""

    def load(url: str) -> Load:
        trace = open_loop(
            f"{url}/predict",
            rate=times * slots / seconds,
            seconds=lasting,
            seed=seed,
            body=FEATURES,
            timeout=PATIENCE * seconds,
        )
        return Load(slots, seconds, times, lasting, trace)

    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(load, urls))


def overload_picture(loads: Mapping[float, tuple[Load, Load]]) -> Overload:
    """What became of each load, by how many times the capacity it was, with admission control and without it."""
    points = [
        Offered(times, round(limited.offered, 2), limited.lasted, limited.served, unlimited.served)
        for times, (limited, unlimited) in sorted(loads.items())
    ]
    one = next(iter(loads.values()))[0]
    title = f"capacity {one.capacity:.0f}/s; with admission control, and without it"
    in_time, gave_up = (round(times * one.seconds * MS, 3) for times in (IN_TIME, PATIENCE))
    return Overload(title, points, round(one.capacity, 2), in_time, gave_up)


def calm_down(url: str) -> None:
    """Let the model forget whom it has not served yet, so that the next load meets an empty queue."""
    body = json.dumps({"features": [FORGET]}).encode()
    closed_loop(f"{url}/predict", connections=1, requests=1, body=body)


def one_more(url: str) -> str:
    """What a request gets now: `""` when it is served, else what it got.

    Raises `Inconclusive` where it got no answer on a busy machine.
    """
    with fair_clock() as clock:
        answer = closed_loop(f"{url}/predict", connections=1, requests=1, body=FEATURES, keep_bodies=True).requests[0]
    if answer.error:
        blame_the_machine_if_busy(clock, "whether one more request is answered")
    return "" if answer.ok else answer.error or f"status {answer.status}"
