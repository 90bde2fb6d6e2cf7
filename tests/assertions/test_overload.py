"""Overload of a real server of known capacity: what counts as goodput, and what a limit gives."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pytest

from checks.harness import ROOT
from checks.harness.assertions.overload import Load, calm_down, one_more, overload, overload_picture
from checks.harness.load.trace import Request, Trace
from checks.harness.processes.servers import server, uvicorn_command
from checks.harness.report.evidence import Offered, Served
from checks.harness.report.pictures import draw
from tests.waiting import upper_bound

SLOTS, SECONDS = 2, 0.05


def load(*outcomes: tuple[float, int | None]) -> Load:
    """A load of requests that were due at 0 s: each with its latency and status, None for one who gave up."""
    requests = [
        Request(0.0, 0.0, latency if status else None, status, None if status else "no answer within 0.5 s", 0)
        for latency, status in outcomes
    ]
    return Load(SLOTS, SECONDS, 2, 0.5, Trace(tuple(requests), 0.0, 1.0))


def test_goodput_counts_what_came_in_time() -> None:
    """Five service times after it was due; refusals and late answers are none."""
    seen = load((0.05, 200), (0.25, 200), (0.26, 200), (0.01, 503), (0.5, None))

    assert (40.0, 4.0, 10.0) == (seen.capacity, seen.goodput, seen.offered)
    assert math.isinf(seen.p95)
    assert seen.served == Served(4.0, None)
    assert seen.refused_in == 0.01
    assert seen.others == []


def test_the_picture_of_an_overload_has_numbers() -> None:
    """Loads in their order, times in ms, None for callers who gave up; the card shows the same as a table."""
    good, late = load((0.05, 200), (0.05, 200)), load((0.05, 200), (0.5, None))
    picture = overload_picture({2: (good, late), 1: (good, good)})

    assert [1, 2] == [point.times for point in picture.points]
    assert Offered(2, 4.0, 0.5, Served(4.0, 50.0), Served(2.0, None)) == picture.points[1]
    assert (40.0, 250.0, 500.0) == (picture.capacity, picture.in_time_ms, picture.gave_up_ms)
    assert ["2", "x", "0.5", "4", "4", "50", "2", ">", "500"] == draw(picture, width=80, ascii_only=True)[
        -1
    ].plain.split()


def test_what_nobody_expected_is_told() -> None:
    """A 500 is neither served nor refused; without refusals there is no time that they took."""
    seen = load((0.05, 200), (0.05, 500))

    assert seen.others == ["status 500"]
    assert math.isinf(seen.refused_in)


@pytest.fixture
def control() -> Iterator[str]:
    """The URL of the lab's own service, which takes on as many as it can serve soon."""
    command = uvicorn_command("checks.harness.cell.known_capacity:create_control", factory=True)
    env = {"LAB_SLOTS": str(SLOTS), "LAB_SLOT_SECONDS": str(SECONDS)}
    with server(command, env=env | {"PYTHONPATH": os.fspath(ROOT)}, cwd=ROOT) as running:
        yield running.url


def test_a_limit_keeps_answers_in_time(control: str) -> None:
    """At twice the capacity the control serves what it takes on soon, refuses the rest, and serves one more after."""
    seen = overload([control], slots=SLOTS, seconds=SECONDS, times=2, lasting=1, seed=1)[0]
    calm_down(control)

    assert one_more(control) == ""
    assert seen.goodput <= 45
    assert len(seen.refusals) >= 10
    with upper_bound():
        assert set(seen.trace.errors) <= {"status 503"}
        assert seen.goodput >= 10
