"""Requests to small apps behind a middleware, in one go: what they cost is measured from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from checks.harness.cell.exchange import App, Exchange

Middleware = Callable[[App], App]


class Behind:
    """So many apps, each behind a middleware of its own.

    `below` is `route`, a FastAPI with one, or `nothing`, an app that does next to that. `middleware` is the learner's,
    or the name of one of the lab's own: `nothing`, or `base http`.
    """

    def __init__(self, middleware: Middleware | str, below: str, number: int) -> None:
        wrap = OWN[middleware] if isinstance(middleware, str) else middleware
        self._apps = [wrap(BELOW[below]()) for _ in range(number)]

    def send(self, requests: int) -> None:
        """Send so many to each of them, one after the other."""
        asyncio.run(self._send(requests))

    async def _send(self, requests: int) -> None:
        for app in self._apps:
            for _ in range(requests):
                await Exchange("GET", "/").run(app)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - the signature is ASGI's
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _route() -> App:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def root() -> dict[str, bool]:
        return {"ok": True}

    return app


def on_base_http(app: App) -> App:
    """The timing middleware of most tutorials. It puts a task and a stream between the app and its server."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        started = time.perf_counter()
        answer = await call_next(request)
        answer.headers["server-timing"] = f"app;dur={(time.perf_counter() - started) * 1000:.1f}"
        return answer

    return BaseHTTPMiddleware(app, dispatch)


OWN: dict[str, Middleware] = {"nothing": lambda app: app, "base http": on_base_http}
BELOW: dict[str, Callable[[], App]] = {"route": _route, "nothing": lambda: _nothing}
