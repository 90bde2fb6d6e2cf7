"""2.5: every duration that the service gives of a request during which the wall clock was set back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checks.harness.assertions.metrics_page import series
from checks.harness.assertions.server_timing import durations
from checks.harness.cell.wall_clock import WallClock
from checks.harness.errors import Failure
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.windows import one_second

NEAR = 60.0
"""Seconds within which a duration is off by the jump of the clock, and by nothing else."""
HINT = "`time.perf_counter()` only ever goes forward. `time.time()` and `datetime.now()` are for dates."


def durations_given(page: dict[str, Any], route: str, header: str, lab: LearnerModules) -> dict[str, float]:
    """Seconds by name: of the route and its stages in the metrics, and of each entry of the Server-Timing."""
    found, second = series(page, route), one_second(lab)
    given = {f"{name} of the route": found[name] / second for name in ("min_ms", "max_ms", "p50_ms")}
    given |= {f"the stage {name!r}": stage["min_ms"] / second for name, stage in found["stages"].items()}
    return given | {f"{name!r} in Server-Timing": ms / 1000 for name, ms in durations(header).items()}


def is_none_of_the_jump(name: str, seconds: float, jump: float, took: float, where: str | None) -> None:
    """A duration is neither below zero nor off by the jump. How long it ought to be, 2.4 judges."""
    off = seconds < 0 or abs(seconds - jump) < NEAR
    assert not off, Failure(
        f"{name} says {seconds:.1f} s of a request that took {took:.2f} s: meanwhile the wall clock was set back by "
        f"{jump:.0f} s",
        wanted="what the request took, whatever that clock shows",
        hint=HINT,
        where=where,
    )


def where_the_clock_is_read(clock: WallClock, workspace: Workspace) -> str | None:
    """The first line of lab/timing.py that reads the wall clock."""
    lines = [workspace.where_line(Path(str(path)), int(line), str(name)) for path, line, name in clock.lines()]
    return next((line for line in lines if line and line.startswith("lab/timing.py")), None)
