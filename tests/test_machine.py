"""How busy this machine is."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from checks.harness import machine
from checks.harness.machine import FairClock, crowding, load_in_words


def test_a_second_counts_less_on_a_crowded_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads for two cores make fair time run four times slower than real time."""
    now = iter([0.0, 1.0, 3.0])
    monkeypatch.setattr("checks.harness.machine.time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(machine, "crowding", lambda: 4.0)
    clock = FairClock()

    assert clock.seconds() == pytest.approx(0.25)
    assert clock.stretch == pytest.approx(4.0)


def test_an_idle_machine_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a core for each thread fair time is real time."""
    monkeypatch.setattr(machine, "crowding", lambda: 1.0)
    clock = FairClock()
    time.sleep(0.01)

    assert clock.seconds() >= 0.01
    assert not clock.busy


def test_the_crowd_is_counted_by_the_kernel() -> None:
    """There is always at least the thread that asks."""
    assert crowding() >= 1.0
    assert load_in_words().startswith("load ")
