"""What a piece of code costs, as a ratio of times taken in turns: a slow machine is slow for both."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from checks.harness.exchange import App, Exchange

SMALL, LARGE = 100, 100_000
"""Samples in the two windows whose cost is compared."""
FILL_SECONDS = 2.0
"""CPU seconds after which a window that is still not full is too slow to go on with."""
RECORDS, RECORD_ROUNDS = 200, 12
FILLED, REQUESTS, REQUEST_ROUNDS = 1000, 150, 5


class Control:
    """The window that costs the same at any size, for certain."""

    def __init__(self, size: int) -> None:
        self.record: Callable[[float], None] = deque[float](maxlen=size).append


def recording_costs(benchmark: Any, window: Callable[[int], Any]) -> tuple[float, float] | None:
    """How many times as long `record` of a full large window takes as of a small one, and the same of the control.

    `benchmark` is pytest-benchmark's fixture: its rounds go to the four windows in turn, and the best of each counts.
    None when the large window took more than `FILL_SECONDS` to fill.
    """
    windows = [make(size) for make in (window, Control) for size in (SMALL, LARGE)]
    for number, full in enumerate(windows):
        started = time.process_time()
        for _ in range((SMALL, LARGE)[number % 2] // 100):
            for _ in range(100):
                full.record(0.1)
            if time.process_time() - started > FILL_SECONDS:
                return None
    turns = itertools.cycle(windows)

    def record(full: Any) -> None:
        for _ in range(RECORDS):
            full.record(0.1)

    benchmark.pedantic(record, setup=lambda: ((next(turns),), {}), rounds=len(windows) * RECORD_ROUNDS)
    seconds = benchmark.stats.stats.data
    small, large, control_small, control_large = (min(seconds[n :: len(windows)]) for n in range(len(windows)))
    return large / small, control_large / control_small


def middleware_costs(*middlewares: Callable[[App], App]) -> list[float]:
    """CPU time of a request to a FastAPI route behind each middleware, as a multiple of the bare route's.

    The best of some rounds in which each takes its turn, after so many requests that a latency window may be full.
    """
    return asyncio.run(_middleware_costs([lambda app: app, *middlewares]))


async def _middleware_costs(middlewares: list[Callable[[App], App]]) -> list[float]:
    apps = [middleware(_one_route()) for middleware in middlewares]
    for app in apps:
        await _seconds(app, FILLED)
    rounds = [[await _seconds(app, REQUESTS) for app in apps] for _ in range(REQUEST_ROUNDS)]
    return [min(seconds[n] / seconds[0] for seconds in rounds) for n in range(1, len(apps))]


async def _seconds(app: App, requests: int) -> float:
    started = time.process_time()
    for _ in range(requests):
        await Exchange("GET", "/").run(app)
    return time.process_time() - started


def _one_route() -> App:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def root() -> dict[str, bool]:
        return {"ok": True}

    return app


def timing_on_base_http_middleware(app: App) -> App:
    """What most tutorials show: it times, too, but puts a task and a stream between the app and its server."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        started = time.perf_counter()
        answer = await call_next(request)
        answer.headers["server-timing"] = f"app;dur={(time.perf_counter() - started) * 1000:.1f}"
        return answer

    return BaseHTTPMiddleware(app, dispatch)
