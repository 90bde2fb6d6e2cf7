"""What a piece of code costs, as a ratio of times taken in turns: a slow machine is slow for both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from checks.harness.cell.exchange import App, Exchange
from checks.harness.judge.cost import computing, ring

SMALL, LARGE = 100, 100_000
"""Samples in the two windows whose cost is compared."""
FILL_SECONDS = 1.0
"""CPU seconds after which a window that is still not full is too slow to go on with."""
RECORDS, RECORD_ROUNDS = 5000, 12
FILLED, WARMED_UP, FEW, REQUESTS, REQUEST_ROUNDS = 1000, 5, 50, 150, 5


def recording_costs(window: Callable[[int], Any]) -> tuple[float, float] | None:
    """How many times as long `record` of a full large window takes as of a small one, and the same of the control.

    The four windows take turns, and the best turn of each counts. None when the large window took more than
    `FILL_SECONDS` to fill.
    """
    windows = [make(size) for make in (window, partial(ring, window)) for size in (SMALL, LARGE)]
    for number, full in enumerate(windows):
        burnt = 0.0
        for _ in range((SMALL, LARGE)[number % 2] // SMALL):
            burnt += computing(full.record, 0.1, SMALL)
            if burnt > FILL_SECONDS:
                return None
    rounds = [[computing(full.record, 0.1, RECORDS) for full in windows] for _ in range(RECORD_ROUNDS)]
    small, large, control_small, control_large = (min(seconds) for seconds in zip(*rounds, strict=True))
    return large / small, control_large / control_small


def middleware_costs(*middlewares: Callable[[App], App]) -> list[float]:
    """CPU time of a request to a FastAPI route behind each middleware, as a multiple of the bare route's.

    Of some rounds, in which each takes its turn, the best of each counts. The best of their ratios would be that of the
    round in which the bare route was disturbed most.
    """

    async def measure() -> list[float]:
        apps = [app, *(middleware(app) for middleware in middlewares)]
        for one in apps:
            await _seconds(one, WARMED_UP)
        rounds = [[await _seconds(one, REQUESTS) for one in apps] for _ in range(REQUEST_ROUNDS)]
        bare, *others = (min(seconds) for seconds in zip(*rounds, strict=True))
        return [other / bare for other in others]

    app = _one_route()
    return asyncio.run(measure())


def cost_of_a_full_window(middleware: Callable[[App], App]) -> float:
    """CPU time of a request once `FILLED` have passed, as a multiple of the first ones'; the best of some rounds.

    The app below does next to nothing, so that the middleware is measured and not the app.
    """

    async def measure() -> float:
        full = middleware(_bare)
        await _seconds(full, FILLED)
        return min([await ratio(full) for _ in range(REQUEST_ROUNDS)])

    async def ratio(full: App) -> float:
        empty = middleware(_bare)
        await _seconds(empty, WARMED_UP)
        return await _seconds(full, FEW) / await _seconds(empty, FEW)

    return asyncio.run(measure())


async def _seconds(app: App, requests: int) -> float:
    started = time.process_time()
    for _ in range(requests):
        await Exchange("GET", "/").run(app)
    return time.process_time() - started


async def _bare(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - the signature is ASGI's
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _one_route() -> App:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def root() -> dict[str, bool]:
        return {"ok": True}

    return app


def timing_on_base_http_middleware(app: App) -> App:
    """The timing middleware of most tutorials. It puts a task and a stream between the app and its server."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        started = time.perf_counter()
        answer = await call_next(request)
        answer.headers["server-timing"] = f"app;dur={(time.perf_counter() - started) * 1000:.1f}"
        return answer

    return BaseHTTPMiddleware(app, dispatch)
