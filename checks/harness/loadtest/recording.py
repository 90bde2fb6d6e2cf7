"""What a run of Locust left: its requests, its users over time, what went wrong, and what arrived at its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from checks.harness.errors import LearnerError, StubError
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.targets import Arrival, Service
from checks.harness.report.evidence import HockeyStick, Point
from checks.harness.workspace import Workspace

LATE = 0.1
"""Seconds by which a program wakes too late (p95) on a machine too busy to judge what it measured."""

SETTLING = 1 / 3
"""The part of a plateau that is dropped: its first users have all just come, and the queue has not filled yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One load test: against what, and what the locustfile is told. Times are in seconds, or in ms where named so."""

    what: str
    """In words, for the card: what is measured."""
    service: Service
    users: int
    steps: int = 1
    step_seconds: float = 2.0
    pace_seconds: float = 0.1
    slo_ms: float = 1000.0
    deadline_ms: float = 5000.0
    stop_seconds: int = 10
    """How long requests in flight may take to end when the run does."""

    @property
    def seconds(self) -> float:
        """How long it is planned to take."""
        return self.steps * self.step_seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as Locust tells of it; `number` is the target's own for it, -1 when no answer said so."""

    finished: float
    latency_ms: float
    failed: bool
    said: str
    method: str
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What the learner's code raised in Locust: in its "task", "tick", "wait_time", or in a "listener" of an event."""

    part: str
    words: str
    where: str | None
    stub: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """What the shape said `at` seconds after its start: users and users/s, None for the end; `users` are there."""

    at: float
    told: tuple[int, float] | None
    users: int


@dataclass(frozen=True, slots=True)
class Plateau:
    """So many users at once, and what came of it, after it had settled."""

    users: int
    requests_per_second: float
    mean_ms: float
    p95_ms: float
    failure_ratio: float


@dataclass(frozen=True)
class Recording:
    """A whole run. Clock times are `time.perf_counter()` seconds, which all processes of a machine share."""

    plan: Plan
    exit_code: int
    shape: str | None
    """The name of the learner's shape class, None when there is none."""
    overdue: bool
    """Whether the shape had not ended long after its last step, so that the recorder ended it."""
    requests: tuple[Sent, ...]
    users: tuple[tuple[float, int], ...]
    ticks: tuple[Tick, ...]
    faults: tuple[Fault, ...]
    arrivals: tuple[Arrival, ...]
    late: float
    """Seconds by which Locust woke too late, p95."""
    target_late: float
    """The same of the target, which ran in another process in the same seconds."""
    busy: float
    """The part of a core that Locust's process used."""

    @property
    def starved(self) -> bool:
        """Whether the machine kept this run from running: a miss proves nothing then."""
        return self.target_late > LATE or (self.late > LATE and self.busy < 0.5)

    def fault(self, part: str) -> Fault | None:
        """What went wrong in one part of the learner's code, if anything did."""
        return next((fault for fault in self.faults if fault.part == part), None)

    def require(self, part: str) -> None:
        """Raise what a part of the learner's code raised in Locust: a `StubError` where it is still to be written."""
        fault = self.fault(part)
        if fault and fault.stub:
            raise StubError(fault.words, fault.where)
        if fault:
            raise LearnerError(
                f"against {self.plan.what} your code raised {fault.words}\nwanted: no exception", fault.where
            )

    @property
    def failed(self) -> tuple[Sent, ...]:
        """The requests that the learner's task, or Locust itself, counted as failures."""
        return tuple(request for request in self.requests if request.failed)

    @property
    def p95_ms(self) -> float:
        """p95 of all requests, by nearest rank."""
        return percentile([request.latency_ms for request in self.requests], 95)

    def plateaus(self) -> list[Plateau]:
        """The steps as they were held: intervals of one number of users, without the time in which they settled."""
        changes = [(at, users) for (_, before), (at, users) in pairwise([(0.0, 0), *self.users]) if users != before]
        found = []
        for (start, users), (end, _) in pairwise([*changes, (self.users[-1][0] if self.users else 0.0, -1)]):
            start += (end - start) * SETTLING
            sent = [r for r in self.requests if start <= r.finished < end]
            if users and sent and end - start >= self.plan.step_seconds * SETTLING:
                latencies = [request.latency_ms for request in sent]
                found.append(
                    Plateau(
                        users,
                        len(sent) / (end - start),
                        fmean(latencies),
                        percentile(latencies, 95),
                        sum(request.failed for request in sent) / len(sent),
                    )
                )
        return found

    def gaps(self, connections: Iterable[int]) -> list[float]:
        """Median seconds from one request's arrival to the next, for each of these connections that carried several."""
        arrived: dict[int, list[float]] = {number: [] for number in connections}
        for arrival in self.arrivals:
            if arrival.connection in arrived:
                arrived[arrival.connection].append(arrival.arrived)
        return [median(b - a for a, b in pairwise(times)) for times in arrived.values() if len(times) > 2]


def hockey_stick(
    title: str, plateaus: Sequence[Plateau], *, slo_ms: float, capacity: float, found: int | None, true: int | None
) -> HockeyStick:
    """The picture of what came of each number of users."""
    points = [Point(p.users, round(p.requests_per_second, 1), round(p.p95_ms, 1)) for p in plateaus]
    return HockeyStick(title, points, slo_ms, capacity, found, true)


def recording(
    plan: Plan, told: dict[str, Any], arrivals: Iterable[Arrival], lags: Iterable[float], workspace: Workspace
) -> Recording:
    """The run that the recorder told of, with what its target counted and how late the target woke."""
    ticks = [Tick(at, said and (said[0], said[1]), users) for at, said, users in told["ticks"]]
    began, ended = told["began"], told["ended"]
    return Recording(
        plan=plan,
        exit_code=told["exit_code"],
        shape=told["shape"],
        overdue=told["overdue"],
        requests=tuple(Sent(*request) for request in told["requests"]),
        users=tuple((at, users) for at, users in told["users"]),
        ticks=tuple(ticks),
        faults=tuple(_fault(fault, workspace) for fault in told["faults"]),
        arrivals=tuple(arrivals),
        late=_p95(told["lags"]),
        target_late=_p95(lags),
        busy=told["cpu_seconds"] / max(ended - began, 0.1),
    )


def _fault(told: dict[str, Any], workspace: Workspace) -> Fault:
    found = (workspace.where_line(Path(path), line, function) for path, line, function in reversed(told["frames"]))
    words = told["words"] if told["stub"] else f"{told['type']}: {told['words']}"
    return Fault(told["part"], words, next(filter(None, found), None), told["stub"])


def _p95(lags: Iterable[float]) -> float:
    late = sorted(lags)
    return percentile(late, 95) if late else 0.0
