"""The learner's TimingMiddleware on its own and in the service: does it pass requests on, and which line does what."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType
from typing import Any

from checks.harness.assertions.answers import calling
from checks.harness.assertions.metrics_page import checked, metrics_of, series, total_count
from checks.harness.cell.exchange import Exchange
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure, LearnerError, Unanswered
from checks.harness.report.evidence import Show
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.windows import one_second

HELD = 0.1
"""Seconds that requests are held where their duration matters."""

PASS_ON_HINT = (
    "In `__call__`: `await self.app(scope, receive, send)`, perhaps with a `send` of your own, and in that one "
    "`await send(message)` for each message, whatever its type."
)
BASE_HINT = (
    "There is a BaseHTTPMiddleware. It runs the app below in a second task, hands each message through a queue, and "
    "ends the answer with a message of its own: what passes it takes longer, and ends differently. Write it as pure "
    "ASGI: a class with `__call__(scope, receive, send)`."
)
NOT_WIRED_HINT = "`app.add_middleware(TimingMiddleware, metrics=app.state.metrics)` in create_app."
TWICE_HINT = "Is the TimingMiddleware added twice, or are metrics recorded in two places? Each request is one `record`."


class Crash(Exception):
    """What a handler of the checkpoints raises."""


def crashed(call: Pending) -> bool:
    """Whether a request ended in the exception that its handler raised."""
    try:
        call.answer()
    except (Crash, ExceptionGroup):
        return True
    except Unanswered:
        return False
    except LearnerError as error:
        if isinstance(error.__cause__, Crash):
            return True
        raise
    return False


def begun(lab: LearnerModules, workspace: Workspace, show: Show) -> None:
    """Go on only if the middleware is more than a stub and answers around a small app; it is where to look next."""
    from fastapi import FastAPI

    for place in (lab.timing.TimingMiddleware, lab.timing.TimingMiddleware.__call__):
        show.at(workspace.where_defined(place))
    exchange = Exchange("GET", "/")
    with calling("TimingMiddleware(app), without any other argument, around a small app", workspace):
        asyncio.run(exchange.run(lab.timing.TimingMiddleware(FastAPI())))
    if exchange.finished is None:
        missing = "without the end of its answer" if exchange.status else "without an answer"
        raise AssertionError(
            Failure(
                f"the TimingMiddleware around a small app returned {missing}",
                wanted="every message passed on",
                hint=PASS_ON_HINT,
            )
        )


def begun_in_service(service: Callable[..., InProcess], lab: LearnerModules, workspace: Workspace, show: Show) -> None:
    """The same, and the service that create_app returns sends its requests through it."""
    begun(lab, workspace, show)
    app = service()
    answer = app.get("/nowhere").answer()
    page = metrics_of(app)
    assert "server-timing" in answer.headers or page["routes"], Failure(
        "no request to the service passes a TimingMiddleware: no answer has a Server-Timing, GET /metrics has no route",
        wanted="the TimingMiddleware around the whole app",
        hint=NOT_WIRED_HINT,
        where=workspace.where_defined(lab.service.create_app),
    )


def alone(
    lab: LearnerModules, in_process: Callable[[Any], InProcess], service: Callable[..., InProcess], routes: Any
) -> tuple[InProcess, Callable[[], dict[str, Any]]]:
    """The TimingMiddleware around an app with these routes, without create_app; and what its Metrics report.

    Where there is no Metrics, or a TimingMiddleware takes none, the learner's whole service stands in for it.
    """
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(routes)
    try:
        metrics = lab.timing.Metrics(1000)
        middleware = lab.timing.TimingMiddleware(app, metrics=metrics)
    except (AttributeError, TypeError):
        whole = service(routes=routes)
        return whole, lambda: metrics_of(whole)
    return in_process(middleware), lambda: checked(metrics.report())


def records_waiting(
    lab: LearnerModules, in_process: Callable[[Any], InProcess], service: Callable[..., InProcess]
) -> bool:
    """Whether the time that a request waits is in what is recorded of it. 2.4 judges that, others only use it."""
    from fastapi import APIRouter

    gate, routes = Probe(), APIRouter()

    @routes.get("/waits")
    async def wait() -> float:
        return await gate.predict([1.0])

    app, report = alone(lab, in_process, service, routes)
    call = app.get("/waits")
    app.until(lambda: gate.inside)
    time.sleep(HELD / 2)
    other = app.get("/waits")  # a start that is kept for all requests is now this one's
    app.until(lambda: gate.inside == 2)
    gate.release(gate.calls[0])
    call.answer()
    recorded = series(report(), "GET /waits")["max_ms"] / one_second(lab)
    gate.open()
    other.answer()
    return bool(recorded > HELD / 4)


def on_base_http(lab: LearnerModules, *, beside: bool = True) -> bool:
    """Whether TimingMiddleware is a BaseHTTPMiddleware of Starlette's, or keeps one; with `beside` also the service."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with suppress(Exception):
        made = lab.timing.TimingMiddleware(app)
        if any(isinstance(one, BaseHTTPMiddleware) for one in (made, *getattr(made, "__dict__", {}).values())):
            return True
        added = beside and [one.cls for one in lab.service.create_app().user_middleware]
        return any(isinstance(one, type) and issubclass(one, BaseHTTPMiddleware) for one in added or ())
    return False


def times_counted(app: InProcess, requests: int) -> int:
    """How often the metrics count each of so many requests: once. 2.6 judges that, others only use it."""
    return max(1, total_count(metrics_of(app)) // max(1, requests))


def line_that_passes_on(lab: LearnerModules, workspace: Workspace, path: str) -> tuple[str | None, bool]:
    """The learner's line that calls the app below for this path, and whether it gives that the very scope that came."""
    callers: list[tuple[CodeType, int, bool]] = []
    exchange = Exchange("GET", path)

    async def below(scope: Any, _: Any, send: Any) -> None:
        frame = sys._getframe(1)
        callers.append((frame.f_code, frame.f_lineno, scope is exchange.scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with suppress(Exception):  # it only points at a line
        asyncio.run(exchange.run(lab.timing.TimingMiddleware(below)))
    if not callers:
        return None, True
    code, line, same = callers[0]
    return workspace.where(code, line), same


@contextmanager
def lines_that_record(lab: LearnerModules, workspace: Workspace) -> Iterator[list[str | None]]:
    """Collects the learner's lines that call `Metrics.record`, if there is one of that name."""
    lines: list[str | None] = []
    kind = getattr(lab.timing, "Metrics", None)
    record = getattr(kind, "record", None)
    if record is None:
        yield lines
        return

    def watched(*arguments: Any, **named: Any) -> Any:
        frame = sys._getframe(1)
        lines.append(workspace.where(frame.f_code, frame.f_lineno))
        return record(*arguments, **named)

    kind.record = watched  # type: ignore[union-attr]
    try:
        yield lines
    finally:
        kind.record = record  # type: ignore[union-attr]


def where_classes_are_made(lab: LearnerModules, workspace: Workspace, status: int) -> str | None:
    """The line to change when a status is counted in a wrong class: `Metrics.record`, or None if that is right."""
    with suppress(Exception):  # it only points at a line
        metrics = lab.timing.Metrics(10)
        metrics.record("GET /x", status, 0.1, {})
        (found,) = metrics.report()["routes"].values()
        if {name for name, count in found["status"].items() if count} != {f"{status // 100}xx"}:
            return workspace.where_defined(lab.timing.Metrics.record)
    return None
