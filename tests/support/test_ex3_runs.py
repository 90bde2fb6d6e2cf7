"""Runs of Locust on a machine that kept them from running: what they left is no proof of a mistake."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.harness.errors import Inconclusive, LearnerError
from checks.harness.loadtest.recording import Plan, Recording, Sent
from checks.harness.loadtest.targets import Answer, Arrival, Service
from checks.support.ex3 import plans, runs

PLAN = Plan("a service", Service((Answer(0.1),)), users=10, steps=1, step_seconds=3.0, pace_seconds=0)
REFUSED = Answer(0.02, 429, kind=plans.REFUSED)


def arrival(number: int, answer: Answer | None, problem: str = "") -> Arrival:
    """One request that arrived."""
    return Arrival(number, 0, "POST", "/predict", problem, "{}", answer, 1, 100.0, 100.02)


def sent(finished: float, *, said: str = "") -> Sent:
    """One that Locust reports, answered after 100 ms."""
    return Sent(finished, 100.0, bool(said), said, "POST", "/predict", 0)


@pytest.fixture
def recording() -> Recording:
    """3 s of 10 users, half of whom are in flight at a time."""
    return Recording(
        plan=PLAN,
        exit_codes=(0,),
        decided=(True,),
        shape="StepLoad",
        overdue=False,
        requests=tuple(sent(100 + i / 50) for i in range(150)),
        users=tuple((99.95 + i / 10, 10 if 0 < i < 31 else 0) for i in range(33)),
        ticks=(),
        faults=(),
        arrivals=(),
        late=0.0,
        target_late=0.0,
        busy=0.1,
    )


def test_a_planned_refusal_is_no_invalid_request(recording: Recording) -> None:
    """A service that refuses as planned was asked; one that refuses because of the request was not."""
    asked = replace(recording, requests=(sent(100.1, said="code=429"),), arrivals=(arrival(0, REFUSED),))
    wrong = replace(recording, arrivals=(arrival(0, None, "404: there is no /predit"),))

    runs.must_have_asked(asked)
    with pytest.raises(LearnerError, match="no valid request reached the service: 404: there is no /predit"):
        runs.must_have_asked(wrong)


def test_users_who_are_not_in_flight_are_the_machines_where_it_stood_still(recording: Recording) -> None:
    """Short stalls, which no percentile over the whole run shows."""
    [plateau] = recording.plateaus()
    halting = replace(recording, stalls=((102.0, 102.3),))

    with pytest.raises(AssertionError, match=r"of 10 users 4\.\d were in flight"):
        runs.all_are_in_flight(recording, [plateau])
    with pytest.raises(Inconclusive, match="too busy"):
        runs.all_are_in_flight(halting, [plateau])
