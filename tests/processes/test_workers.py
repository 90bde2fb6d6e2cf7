"""Connections spread over the workers of a real server, and the rates of its three kinds of work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from checks.harness import ROOT
from checks.harness.apps.reference import BURN_SECONDS
from checks.harness.errors import LearnerError
from checks.harness.processes.servers import server, uvicorn_command
from checks.harness.processes.workers import all_pids, pids, pids_beside, rate, spread

SECONDS = 0.2


@contextmanager
def kinds(workers: int) -> Iterator[str]:
    """The URL of the lab's own service with so many workers."""
    command = uvicorn_command("checks.harness.apps.reference:create_bare", factory=True, workers=workers)
    env = {"LAB_INFERENCE_SECONDS": str(SECONDS), "PYTHONPATH": os.fspath(ROOT)}
    with server(command, env=env, cwd=ROOT, workers=workers) as running:
        yield running.url


def test_each_worker_holds_its_share() -> None:
    """Two workers, two pids, and on eight connections twice what a blocking one can give."""
    with kinds(workers=2) as url:
        found = all_pids(url, 2, 30)
        assert pids_beside(url, "/predict/blocking", rounds=10) == found
        with spread(url, 2, 8) as connections:
            blocking = max(rate(connections, "/predict/blocking", 1) for _ in range(3))

    assert len(found) == 2
    assert len(connections) == 8
    assert blocking <= 2 / SECONDS


def test_one_worker_is_one_pid() -> None:
    """What blocks it goes one after the other, what waits goes together, and an answer that is no 200 is told."""
    with kinds(workers=1) as url:
        found = pids(url)
        with spread(url, 1, 8) as connections:
            blocking = rate(connections, "/predict/blocking", 1)
            awaited = max(rate(connections, "/predict", 1) for _ in range(3))
            assert rate(connections, "/burn", 1) <= 1 / BURN_SECONDS

    assert len(found) == 1
    assert blocking <= 1 / SECONDS
    assert awaited > blocking


def test_an_answer_that_is_no_200_is_told(control_with_limit: str) -> None:
    """In words for a learner."""
    with (
        spread(control_with_limit, 1, 4) as connections,
        pytest.raises(LearnerError, match=r"POST /predict gave 503: .*\nwanted: 200"),
    ):
        rate(connections, "/predict", 2)


@pytest.fixture
def control_with_limit() -> Iterator[str]:
    """A service that refuses the third of three."""
    command = uvicorn_command("checks.harness.cell.known_capacity:create_control", factory=True)
    env = {"LAB_SLOTS": "1", "LAB_SLOT_SECONDS": "0.3", "PYTHONPATH": os.fspath(ROOT)}
    with server(command, env=env, cwd=ROOT) as running:
        yield running.url
