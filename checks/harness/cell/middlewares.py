"""The learner's TimingMiddleware around small apps of the lab's own, in the process where it is.

What is found out here explains: it names a line, or chooses a hint. `passed` gives what arrived as data.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from checks.harness.cell.behind import Behind
from checks.harness.cell.exchange import Exchange
from checks.harness.cell.stacks import Line, line_of

HELD = 0.02
"""Seconds between the pieces of a stream."""


def small_app(middleware: Any) -> tuple[int | None, bool]:
    """Send `GET /` through a middleware around an app without routes: the status, and whether the answer had an end."""
    from fastapi import FastAPI

    exchange = Exchange("GET", "/")
    asyncio.run(exchange.run(middleware(FastAPI())))
    return exchange.status, exchange.finished is not None


def line_that_passes_on(middleware: Any, path: str) -> tuple[Line | None, bool]:
    """The line that calls the app below for this path, and whether it gives that the very scope that came."""
    callers: list[tuple[Line, bool]] = []
    exchange = Exchange("GET", path)

    async def below(scope: Any, _: Any, send: Any) -> None:
        frame = sys._getframe(1)
        code = frame.f_code
        callers.append(((code.co_filename, frame.f_lineno, code.co_name), scope is exchange.scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with suppress(Exception):  # it only points at a line
        asyncio.run(exchange.run(middleware(below)))
    return callers[0] if callers else (None, True)


def send_below(middleware: Any, method: str, path: str) -> Line | None:
    """The first line of the `send` that a middleware gives to the app below for this request."""
    given: list[Line] = []

    async def below(_: Any, __: Any, send: Any) -> None:
        function = getattr(send, "func", send)
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code:
            given.append((code.co_filename, code.co_firstlineno, code.co_name))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with suppress(Exception):  # it only points at a line
        asyncio.run(Exchange(method, path).run(middleware(below)))
    return given[0] if given else None


class Watched:
    """Notes the lines that call `record` of a class, until `over`."""

    def __init__(self, kind: Any) -> None:
        self._kind, self._record, self._lines = kind, kind.record, list[Line]()

        def watched(*arguments: Any, **named: Any) -> Any:
            self._lines.append(line_of(sys._getframe(1)))
            return self._record(*arguments, **named)

        kind.record = watched

    def over(self) -> list[Line]:
        """The lines, each once."""
        self._kind.record = self._record
        return [*dict.fromkeys(self._lines)]


def on_base_http(middleware: Any, create_app: Callable[[], Any] | None) -> bool:
    """Whether a middleware is a BaseHTTPMiddleware of Starlette's, or keeps one, or the app that is made has one."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with suppress(Exception):
        made = middleware(app)
        if any(isinstance(one, BaseHTTPMiddleware) for one in (made, *getattr(made, "__dict__", {}).values())):
            return True
        added = [one.cls for one in create_app().user_middleware] if create_app else []
        return any(isinstance(one, type) and issubclass(one, BaseHTTPMiddleware) for one in added)
    return False


def lifespan_in_flight(middleware: Any, metrics: Any) -> int:
    """How many requests a lifespan counts for, while it runs: none, if it passes untouched."""
    seen: list[int] = []

    async def below(*_: Any) -> None:
        seen.append(int(metrics.in_flight))

    with suppress(Exception):
        asyncio.run(middleware(below, metrics=metrics)({"type": "lifespan"}, None, None))
    return seen[0] if seen else 0


def behind(middleware: Any, below: str, number: int = 1) -> Behind:
    """So many small apps behind a middleware."""
    return Behind(middleware, below, number)


class Told:
    """Stands in the place of `log`: what it was told, and the lines that called it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.lines: list[Line] = []

    def __call__(self, *told: Any, **named: Any) -> None:
        """Note one call."""
        self.told.append((*told, *named.values()))
        self.lines.append(line_of(sys._getframe(1)))


def logged_of_a_request(middleware: Any) -> tuple[Line | None, bool, bool]:
    """The line with which a middleware logs a stream, and whether it gives `log` what it has to.

    That is first the method, the route and the status, and second the seconds until the last byte.
    """
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    below, log = FastAPI(), Told()
    early: list[tuple[Any, ...]] = []
    held = 0.0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal held
        began = time.perf_counter()
        yield b"first"
        await asyncio.sleep(HELD)
        held = time.perf_counter() - began
        early.extend(log.told)
        yield b"last"

    @below.post("/told/{number}")
    async def told(number: int) -> StreamingResponse:
        return StreamingResponse(pieces(), 200 + number)

    with suppress(Exception):  # it only points at a line
        asyncio.run(Exchange("POST", "/told/2").run(middleware(below, log=log)))
        method, route, status, seconds, *_ = log.told[-1]
        return log.lines[-1], (method, route, status) == ("POST", "/told/{number}", 202), not early and seconds >= held
    return next(reversed(log.lines), None), False, False


def lines_of_a_cancelled_request(middleware: Any) -> list[Line]:
    """The lines with which a middleware logs a request that is cancelled; none where it takes no `log`."""
    log = Told()

    async def below(*_: Any) -> None:
        await asyncio.Event().wait()

    async def cancelled(app: Any) -> None:
        request = asyncio.ensure_future(Exchange("GET", "/").run(app))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await request

    try:
        app = middleware(below, log=log)
    except TypeError:
        return []
    asyncio.run(cancelled(app))
    return log.lines


def merges_contextvars() -> bool:
    """Whether structlog is configured, and puts what is bound to the context into each line."""
    import structlog

    merges = structlog.contextvars.merge_contextvars in structlog.get_config()["processors"]
    return bool(merges and structlog.is_configured())


def entered(stage: Any, name: str) -> None:
    """Enter and leave a stage."""
    with stage(name):
        pass


def passed(middleware: Any, scope: dict[str, Any], word: str) -> tuple[dict[str, Any], list[Any], list[Any], bool]:
    """Send something else than a request through a middleware, with a message in each direction that has this word.

    What arrived: the scope, the messages below and above, and whether below had the very `receive` and `send`.
    """
    arrived: list[tuple[Any, ...]] = []
    below_got: list[Any] = []
    above_got: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "given", "word": word}

    async def send(message: Any) -> None:
        above_got.append(message)

    async def below(*arguments: Any) -> None:
        arrived.append(arguments)
        below_got.append(await arguments[1]())
        await arguments[2]({"type": "taken", "word": word[::-1]})

    asyncio.run(middleware(below)(scope, receive, send))
    if not arrived:
        return {}, below_got, above_got, False
    return arrived[0][0], below_got, above_got, arrived[0][1:] == (receive, send)
