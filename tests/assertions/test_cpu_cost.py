"""Costs as ratios."""

from __future__ import annotations

import time
from typing import Any

import pytest

from checks.harness.assertions.cpu_cost import (
    cost_of_a_full_window,
    middleware_costs,
    recording_costs,
)
from tests.waiting import upper_bound


class Popping:
    """A window that moves all its samples at every record."""

    def __init__(self, size: int) -> None:
        self.size, self.samples = size, list[float]()

    def record(self, seconds: float) -> None:
        """Make room at the front."""
        if len(self.samples) == self.size:
            self.samples.pop(0)
        self.samples.append(seconds)


class Endless:
    """A window whose every record takes its time."""

    def __init__(self, size: int) -> None:
        self.pause = size * 1e-7

    def record(self, seconds: float) -> None:
        """Burn CPU time."""
        until = time.process_time() + self.pause
        while time.process_time() < until:
            pass


def burning(seconds_per_request: float) -> Any:
    """A middleware that takes longer with every request that it has seen."""

    def middleware(app: Any) -> Any:
        seen = 0

        async def burn(scope: Any, receive: Any, send: Any) -> None:
            nonlocal seen
            seen += 1
            until = time.process_time() + seen * seconds_per_request
            while time.process_time() < until:
                pass
            await app(scope, receive, send)

        return burn

    return middleware


def test_recording_costs_tell_a_ring_from_a_list() -> None:
    """The control costs the same at both sizes; popping from the front does not."""
    costs = recording_costs(Popping)

    assert costs is not None
    with upper_bound():
        assert costs[0] > 8
        assert costs[1] < 4


def test_a_window_that_never_fills_is_given_up() -> None:
    """Nobody waits for 100,000 records that take ten milliseconds each."""
    costs = recording_costs(Endless)

    assert costs is None


def test_middleware_costs_are_multiples_of_the_bare_route() -> None:
    """Nothing costs nothing; BaseHTTPMiddleware costs more than that."""
    nothing, base = middleware_costs(lambda app: app, "base http")

    with upper_bound():
        assert nothing == pytest.approx(1, abs=0.3)
        assert base > nothing


def test_work_that_grows_with_the_requests_shows() -> None:
    """Passing on costs the same for ever; work for all earlier requests does not."""
    with upper_bound():
        assert cost_of_a_full_window(lambda app: app) < 2
        assert cost_of_a_full_window(burning(1e-7)) > 2
