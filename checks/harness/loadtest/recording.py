"""What a run of Locust left: its requests, its users over time, what went wrong, and what arrived at its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from checks.harness.errors import LearnerError, StubError
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.targets import LOOK_SECONDS, Arrival, Service, Target
from checks.harness.machine import BUSY
from checks.harness.plain_words import hint_for_printed
from checks.harness.report.evidence import HockeyStick, Point
from checks.harness.workspace import Workspace

LATE = 0.1
"""Seconds of lateness (p95) from which a machine is too busy to judge anything that was timed."""

SETTLING = 1 / 3
"""The part of a plateau that is dropped: its first users have all just come, and the queue has not filled yet."""

OF_LOCUST = {
    "wait_time returned a function": "`constant_pacing(PACE_SECONDS)` is a function that takes the user: call it with "
    "`self`, or write `wait_time = constant_pacing(PACE_SECONDS)` in the class.",
    "tick returned": "Return a pair, `(users, users per second)`, or `None` after the last step.",
    "No tasks defined": "`@task` above the method makes it a task.",
    "you must also pass catch_response": "Give `catch_response=True` to the call in the `with` line.",
    "Tried to set status on a request": "`response.failure(...)` works only inside the `with` block of the request.",
    "'StatsEntry' object has no attribute": "Use `get_response_time_percentile(0.95)`, `fail_ratio`, `num_requests`.",
    "KeyError: 'prediction": 'A good answer is `{"prediction": 3.0}`. Another may hold none: look at the status first.',
    "JSONDecodeError": "An answer that is not good may hold no JSON: look at the status first.",
    "is an `async def`": "Locust uses gevent, not asyncio: write a plain `def`, without `await`.",
    "ZeroDivisionError": "A pace of 0 is allowed, and means no wait at all: do not divide by it.",
}
"""What mends an exception in a load test, by a part of its words."""


def hint_for_raised(raised: str) -> str:
    """What mends an exception of Locust's process, given as Python prints it; empty where nothing general does."""
    for words, hint in OF_LOCUST.items():
        if words in raised:
            return hint
    return hint_for_printed(raised)


def lateness(lags: Iterable[tuple[float, float]]) -> float:
    """Seconds by which a loop woke too late, p95 over the time; 0.0 without any. A lag: when due, how late.

    It looks every `LOOK_SECONDS`: one look that came 0.5 s late stands for all that it kept from being taken.
    """
    looks = [late for _, late in lags for _ in range(1 + int(late / LOOK_SECONDS))]
    return percentile(looks, 95) if looks else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One load test: against what, and what the locustfile is given. Times are in seconds, or in ms where named so."""

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
    pause_seconds: float = 0.0
    """Time between the import of the locustfile and the start of the test."""
    workers: int = 0
    """Processes in which the users run, beside a master that has none; 0: all in one process."""

    @property
    def seconds(self) -> float:
        """How long it is planned to take."""
        return self.pause_seconds + self.steps * self.step_seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as Locust reports it; `number` is the target's own for it, -1 when no answer carried one."""

    finished: float
    latency_ms: float
    failed: bool
    said: str
    """Why it failed, in the words of the task or of Locust."""
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

    @property
    def hint(self) -> str:
        """What mends it, where that is known."""
        if self.part == "listener" and "ZeroDivisionError" in self.words:
            return "`num_requests` is 0 where nothing was answered: look at that first."
        return hint_for_raised(self.words)


@dataclass(frozen=True, slots=True)
class Tick:
    """One answer of the shape: users and users/s, None for the end.

    The shape's own clock read between `earliest` and `latest` seconds meanwhile. So many `users` ran at that moment.
    """

    earliest: float
    latest: float
    answer: tuple[int, float] | None
    users: int


@dataclass(frozen=True, slots=True)
class Plateau:
    """So many users at once, and what came of it, after it had settled."""

    users: int
    requests_per_second: float
    mean_ms: float
    p95_ms: float
    failure_ratio: float
    span: tuple[float, float] = (0.0, 0.0)
    """From when to when it was measured."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run. Clock times are `time.perf_counter()` seconds, which all processes of a machine share."""

    plan: Plan
    exit_codes: tuple[int | None, ...]
    """Of Locust's process; of a distributed run the master's first, then each worker's, None of one that was killed."""
    decided: tuple[bool, ...]
    """Of the same processes: whether the learner's gate set the exit code."""
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
    stalls: tuple[tuple[float, float], ...] = ()
    """From when to when Locust or its target stood still, for the machine and not for what they do themselves."""
    stretch: float = 1.0
    """How many times as long computing took as on an idle machine, on average: see `machine.FairClock`."""

    @property
    def exit_code(self) -> int | None:
        """Locust's; of a distributed run the master's."""
        return self.exit_codes[0]

    @property
    def lateness(self) -> float:
        """Seconds by which the machine made this run late: not by its own work, where it keeps itself busy."""
        return max(self.target_late, self.late if self.busy < 0.5 else 0.0)

    @property
    def starved(self) -> bool:
        """Whether the machine kept this run from running: requests may be cut off, and processes lose each other."""
        return self.lateness > LATE or self.stretch >= BUSY

    def stalled(self, span: tuple[float, float]) -> float:
        """The part of that time in which Locust or its target stood still, 0.0 to 1.0."""
        start, end = span
        return sum(max(0.0, min(to, end) - max(since, start)) for since, to in self.stalls) / max(end - start, 1e-9)

    def may_be_late_by(self, seconds: float) -> bool:
        """Whether a busy machine explains it that something came so many seconds late."""
        return self.lateness > min(LATE, seconds / 2)

    def fault(self, part: str) -> Fault | None:
        """What went wrong in one part of the learner's code, if anything did."""
        return next((fault for fault in self.faults if fault.part == part), None)

    def require(self, part: str) -> None:
        """Raise what a part of the learner's code raised in Locust: a `StubError` where it is still to be written."""
        fault = self.fault(part)
        if fault and fault.stub:
            raise StubError(fault.words, fault.where)
        if fault:
            seen = f"against {self.plan.what} your code raised {fault.words}"
            raise LearnerError(seen, fault.where, wanted="no exception", hint=fault.hint)

    @property
    def failed(self) -> tuple[Sent, ...]:
        """The requests that the learner's task, or Locust itself, counted as failures."""
        return tuple(request for request in self.requests if request.failed)

    @property
    def failure_ratio(self) -> float:
        """The part of all requests that was counted as failed, 0.0 to 1.0; 0.0 without any."""
        return len(self.failed) / max(len(self.requests), 1)

    @property
    def p95_ms(self) -> float:
        """p95 of all requests, by nearest rank; 0.0 without any."""
        return percentile([request.latency_ms for request in self.requests], 95) if self.requests else 0.0

    @property
    def mean_ms(self) -> float:
        """Mean of all requests; 0.0 without any."""
        return fmean(request.latency_ms for request in self.requests) if self.requests else 0.0

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
                        (start, end),
                    )
                )
        return found

    def gaps(self, connections: Iterable[int]) -> list[float]:
        """Seconds from one arrival to the next on the same connection, of those connections that carried several."""
        arrived: dict[int, list[float]] = {number: [] for number in connections}
        for arrival in self.arrivals:
            if arrival.connection in arrived:
                arrived[arrival.connection].append(arrival.arrived)
        return [b - a for times in arrived.values() if len(times) > 2 for a, b in pairwise(times)]


def hockey_stick(
    title: str, plateaus: Sequence[Plateau], *, slo_ms: float, capacity: float, found: int | None, true: int | None
) -> HockeyStick:
    """The picture of what came of each number of users."""
    points = [Point(p.users, round(p.requests_per_second, 1), round(p.p95_ms, 1)) for p in plateaus]
    return HockeyStick(title, points, slo_ms, capacity, found, true)


def recording(
    plan: Plan,
    records: Sequence[dict[str, Any]],
    exit_codes: Sequence[int | None],
    target: Target,
    workspace: Workspace,
) -> Recording:
    """The run of which the recorder left `records`, one for each process, with what its target counted."""
    first = records[0]
    ran = records[1:] or records  # a master has no users of its own
    busy = max(record["cpu_seconds"] / max(record["ended"] - record["began"], 0.1) for record in ran)
    # One that keeps itself busy has only itself to blame.
    waited = [*target.lags, *(lag for record in ran for lag in record["lags"] if busy < 0.5)]
    return Recording(
        plan=plan,
        exit_codes=tuple(exit_codes),
        decided=tuple(record["decided"] for record in records),
        shape=first["shape"],
        overdue=first["overdue"],
        requests=tuple(Sent(*request) for record in ran for request in record["requests"]),
        users=tuple((at, users) for at, users in first["users"]),
        ticks=tuple(
            Tick(earliest, latest, answer and (answer[0], answer[1]), users)
            for earliest, latest, answer, users in first["ticks"]
        ),
        faults=tuple(_fault(fault, workspace) for record in records for fault in record["faults"]),
        arrivals=tuple(target.arrivals),
        late=max(lateness(record["lags"]) for record in ran),
        target_late=lateness(target.lags),
        busy=busy,
        stalls=tuple((due, due + late) for due, late in waited if late > LOOK_SECONDS),
        stretch=target.clock.stretch,
    )


def _fault(noted: dict[str, Any], workspace: Workspace) -> Fault:
    found = (workspace.where_line(Path(path), line, function) for path, line, function in reversed(noted["frames"]))
    words = noted["words"] if noted["stub"] else f"{noted['type']}: {noted['words']}"
    return Fault(noted["part"], words, next(filter(None, found), None), noted["stub"])
