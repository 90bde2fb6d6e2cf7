"""Recordings: plateaus and paces cut from what Locust and its target wrote down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.harness.errors import LearnerError, StubError
from checks.harness.loadtest.recording import Fault, Plan, Recording, Sent, hockey_stick, lateness
from checks.harness.loadtest.targets import Answer, Arrival, Service

PLAN = Plan("two steps", Service((Answer(0.01),)), users=2, steps=2, step_seconds=3.0)


def arrival(number: int, arrived: float, connection: int = 0, seconds: float = 0.01) -> Arrival:
    """A valid request, answered after `seconds`."""
    return Arrival(number, connection, "POST", "/predict", "", "{}", Answer(0.01), 1, arrived, arrived + seconds)


def sent(finished: float, latency_ms: float = 10.0, *, failed: bool = False) -> Sent:
    """A request as Locust reports it."""
    return Sent(finished, latency_ms, failed, "", "POST", "/predict", -1)


@pytest.fixture
def recording() -> Recording:
    """3 s of 2 users at 10 requests/s and 10 ms, then 3 s of 4 users at 20 requests/s and 40 ms, a tenth failed."""
    slow = [sent(103 + i / 20, 10 if i < 20 else 40, failed=i % 10 == 0) for i in range(60)]
    return Recording(
        plan=PLAN,
        exit_codes=(0,),
        decided=(True,),
        shape="StepLoad",
        overdue=False,
        requests=(*(sent(100 + i / 10) for i in range(30)), *slow),
        users=tuple((99.9 + i / 10, 0 if i < 1 else 2 if i < 31 else 4 if i < 61 else 0) for i in range(63)),
        ticks=(),
        faults=(),
        arrivals=tuple(arrival(i, 100 + i / 15) for i in range(90)),
        late=0.0,
        target_late=0.0,
        busy=0.1,
    )


def test_plateaus_are_cut_where_the_users_change(recording: Recording) -> None:
    """Each without its first third, in which it has not settled."""
    first, second = recording.plateaus()

    assert (2, 4) == (first.users, second.users)
    assert 10 == pytest.approx(first.requests_per_second, rel=0.05)
    assert 20 == pytest.approx(second.requests_per_second, rel=0.05)
    assert (10, 40) == (first.p95_ms, second.mean_ms)
    assert 0.1 == pytest.approx(second.failure_ratio, abs=0.01)


def test_users_on_their_way_are_no_plateau(recording: Recording) -> None:
    """A number of users that was there for a moment is not judged."""
    users = [*recording.users]
    users[31] = (users[31][0], 3)

    assert [2, 4] == [plateau.users for plateau in replace(recording, users=tuple(users)).plateaus()]


def test_gaps_are_those_of_a_connection(recording: Recording) -> None:
    """From start to start; one request alone has none."""
    arrivals = [*(arrival(i, i * 0.5, connection=1) for i in range(5)), arrival(9, 0.1, connection=2)]

    assert [0.5] * 4 == replace(recording, arrivals=tuple(arrivals)).gaps([1, 2])


def test_a_look_that_came_late_stands_for_those_that_it_kept_from_being_taken() -> None:
    """Two of 60 looks, but a sixth of the time."""
    looks = [(at * 0.05, 0.001) for at in range(58)]

    assert 0.001 == lateness(looks)
    assert 0.3 == lateness([*looks, (2.9, 0.3), (3.2, 0.3)])
    assert 0.0 == lateness([])


def test_a_plateau_knows_how_long_the_run_stood_still_in_it(recording: Recording) -> None:
    """A part of its time; what was before it does not count."""
    run = replace(recording, stalls=((99.0, 101.5), (102.0, 102.5), (110.0, 111.0)))
    first, second = run.plateaus()

    assert 0.45 == pytest.approx(run.stalled(first.span), abs=0.1)
    assert 0 == run.stalled(second.span)


@pytest.mark.parametrize(
    ("late", "target_late", "busy", "starved"),
    [
        (0.01, 0.01, 0.1, False),
        (0.5, 0.01, 0.1, True),  # the machine did not let it run
        (0.5, 0.01, 0.9, False),  # it kept itself busy: a locustfile that computes
        (0.01, 0.5, 0.9, True),
    ],
)
def test_a_run_is_starved_when_the_machine_kept_it_waiting(
    late: float, target_late: float, busy: float, starved: bool, recording: Recording
) -> None:
    """Late because of others, not because of itself."""
    assert replace(recording, late=late, target_late=target_late, busy=busy).starved is starved


@pytest.mark.parametrize(
    ("late", "seconds", "explains"), [(0.03, 0.05, True), (0.01, 0.05, False), (0.12, 9.0, True), (0.09, 9.0, False)]
)
def test_a_late_machine_explains_a_miss(late: float, seconds: float, explains: bool, recording: Recording) -> None:
    """A lateness of half the miss does, and one of 100 ms explains any."""
    assert replace(recording, late=late).may_be_late_by(seconds) is explains


def test_a_crowded_machine_starves_a_run(recording: Recording) -> None:
    """One on which all takes three times as long, though the run woke in time."""
    assert replace(recording, stretch=3.5).starved
    assert not recording.starved


def test_a_part_that_raised_fails_and_a_stub_is_not_started(recording: Recording) -> None:
    """Only where that part is required."""
    run = replace(
        recording, faults=(Fault("tick", "KeyError: 1", "x:1", False), Fault("wait_time", "3.3: w", "x:2", True))
    )

    run.require("task")
    with pytest.raises(LearnerError, match="KeyError"):
        run.require("tick")
    with pytest.raises(StubError, match=r"3\.3"):
        run.require("wait_time")


def test_a_hockey_stick_holds_every_plateau(recording: Recording) -> None:
    """With what was found and what is true."""
    curve = hockey_stick("t", recording.plateaus(), slo_ms=30, capacity=20, found=4, true=None)

    assert [2, 4] == [point.users for point in curve.points]
    assert ("curve", 4, None) == (curve.kind, curve.found, curve.true)
