"""The wall clock that can be set."""

from __future__ import annotations

import datetime
import time

import pytest

from checks.harness.cell.wall_clock import WallClock


def test_what_tells_the_date_is_set_back_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to the date goes back; what is made for durations does not."""
    clock = WallClock()
    clock.install(monkeypatch.setattr)
    from datetime import datetime as by_name  # as a learner's module does, once the clock is in place

    def look() -> list[float]:
        return [
            time.time(),
            time.time_ns() / 1e9,
            datetime.datetime.now().timestamp(),
            by_name.now(datetime.UTC).timestamp(),
            by_name.today().timestamp(),
            by_name.utcnow().replace(tzinfo=datetime.UTC).timestamp(),
        ]

    before, monotonic, performance = look(), time.monotonic(), time.perf_counter()
    clock.set_back(3600)
    after = look()

    assert all(-3600 <= late - early < -3500 for early, late in zip(before, after, strict=True))
    assert time.monotonic() >= monotonic
    assert time.perf_counter() >= performance


def test_the_clock_is_right_again_afterwards() -> None:
    """The patch ends with the test that asked for it."""
    with pytest.MonkeyPatch.context() as patch:
        clock = WallClock()
        clock.install(patch.setattr)
        clock.set_back(3600)
        wrong = time.time()

    assert time.time() - wrong > 3500
    assert datetime.datetime.__name__ == "datetime"


@pytest.mark.parametrize("name", ["time", "time_ns", "now", "today", "utcnow"])
def test_it_keeps_who_has_read_it(name: str) -> None:
    """Code and line of each caller: the line to change where a duration is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        clock = WallClock()
        clock.install(patch.setattr)
        read = getattr(time, name, None) or getattr(datetime.datetime, name)
        read()

    assert "test_it_keeps_who_has_read_it" in [code.co_name for code, _ in clock.readers]
