"""A worker that uvicorn ended is the machine's fault, also where uvicorn says so a little later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from checks.harness.errors import Inconclusive
from checks.harness.machine import FairClock
from checks.harness.processes.servers import Server
from checks.support.ex4 import deployment


class LateWords:
    """A server whose supervisor prints that it ended a worker between two looks."""

    def __init__(self, *said: str) -> None:
        self._said: Iterator[str] = iter(said)
        self._last = ""

    def output(self) -> str:
        """What it has printed by now."""
        self._last = next(self._said, self._last)
        return self._last


class BusyClock(FairClock):
    @property
    def busy(self) -> bool:
        """Always."""
        return True


def test_a_worker_whose_end_is_said_late_is_no_mistake() -> None:
    """The connection is closed at once; the line comes when the supervisor has got a core again."""
    server = cast("Server", LateWords("", "", "INFO:     Child process [7] died\n"))

    with pytest.raises(Inconclusive, match="it replaced 1 here"):
        deployment.blame_a_lost_worker(server, BusyClock())


def test_on_an_idle_machine_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost there was lost by the service."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    idle = FairClock()
    monkeypatch.setattr(FairClock, "busy", property(lambda self: False))

    deployment.blame_a_lost_worker(cast("Server", LateWords("")), idle)
