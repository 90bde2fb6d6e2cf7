"""What a piece of code costs, as a ratio of times taken in turns: a slow machine is slow for both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from checks.harness.judge.cost import many_cost, one_costs, ring
from checks.harness.judge.handles import beside

SMALL, LARGE = 100, 100_000
"""Samples in the two windows whose cost is compared."""
FILL_SECONDS = 1.0
"""CPU seconds after which a window that is still not full is too slow to go on with."""
RECORDS, RECORD_ROUNDS = 5000, 12
FILLED, WARMED_UP, FEW, REQUESTS, REQUEST_ROUNDS = 1000, 5, 50, 150, 5
EMPTY = 10
"""Apps that are new, which together get as many requests as one that is not."""


def recording_costs(window: Callable[[int], Any]) -> tuple[float, float] | None:
    """How many times as long `record` of a full large window takes as of a small one, and the same of the control.

    The four windows take turns, and the best turn of each counts. None when the large window took more than
    `FILL_SECONDS` to fill.
    """
    windows = [make(size) for make in (window, partial(ring, window)) for size in (SMALL, LARGE)]
    for number, full in enumerate(windows):
        burnt = 0.0
        for _ in range((SMALL, LARGE)[number % 2] // SMALL):
            burnt += many_cost(full.record, 0.1, SMALL)
            if burnt > FILL_SECONDS:
                return None
    rounds = [[many_cost(full.record, 0.1, RECORDS) for full in windows] for _ in range(RECORD_ROUNDS)]
    small, large, control_small, control_large = (min(seconds) for seconds in zip(*rounds, strict=True))
    return large / small, control_large / control_small


def middleware_costs(timing: Any, *middlewares: Any) -> list[float]:
    """CPU time of a request to a FastAPI route behind each middleware, as a multiple of the bare route's.

    `timing` is the learner's, and first; the lab's own ones have names: see `cell/behind.py`. Of some rounds, in which
    each takes its turn, the best of each counts. The best of their ratios would be that of the round in which the bare
    route was disturbed most.
    """
    apps = [beside(timing).behind(one, "route") for one in ("nothing", timing, *middlewares)]
    for one in apps:
        one.send(WARMED_UP)
    rounds = [[one_costs(one.send, REQUESTS) for one in apps] for _ in range(REQUEST_ROUNDS)]
    bare, *others = (min(seconds) for seconds in zip(*rounds, strict=True))
    return [other / bare for other in others]


def cost_of_a_full_window(timing: Any, middleware: Any = None) -> float:
    """CPU time of a request once `FILLED` have passed, as a multiple of the first ones'; the best of some rounds.

    Of the learner's middleware `timing`, or of another one beside it. The app below does next to nothing, so that the
    middleware is measured and not the app.
    """
    middleware = timing if middleware is None else middleware
    full = beside(timing).behind(middleware, "nothing")
    full.send(FILLED)
    ratios = []
    for _ in range(REQUEST_ROUNDS):
        empty = beside(timing).behind(middleware, "nothing", EMPTY)
        empty.send(WARMED_UP)
        ratios.append(one_costs(full.send, EMPTY * FEW) / one_costs(empty.send, FEW))
    return min(ratios)
