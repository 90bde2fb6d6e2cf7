"""The learner's TimingMiddleware on its own and in the service: does it pass requests on, and which line does what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from checks.harness.assertions.answers import calling
from checks.harness.assertions.metrics_page import checked, metrics_of, series, total_count
from checks.harness.cell.given_routes import Crash, Given
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.cell.stacks import Line
from checks.harness.errors import Failure, LearnerError, Unanswered
from checks.harness.fixtures import Service
from checks.harness.judge.handles import attribute, beside
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
    "The service has a BaseHTTPMiddleware. It runs the app below in a second task, passes each message through a "
    "queue, and ends the answer with a message of its own: an answer takes longer, and ends differently. Write it "
    "as pure ASGI: a class with `__call__(scope, receive, send)`."
)
NOT_WIRED_HINT = "`app.add_middleware(TimingMiddleware, metrics=app.state.metrics)` in create_app."
TWICE_HINT = (
    "Is the TimingMiddleware added twice, or are metrics recorded in two places? Call `record` once for each request."
)


def crashed(call: Pending) -> bool:
    """Whether a request ended in the exception that its handler raised."""
    try:
        call.answer()
    except Unanswered:
        return False
    except ExceptionGroup:
        return True
    except Exception as error:
        raised = error.__cause__ if isinstance(error, LearnerError) else error
        if type(raised).__name__ == Crash.__name__:  # one from a cell has the name of its class, and not the class
            return True
        raise
    return False


def begun(lab: LearnerModules, workspace: Workspace, show: Show) -> None:
    """Go on only if the middleware is more than a stub and answers around a small app; it is where to look next."""
    middleware = lab.timing.TimingMiddleware
    for place in (middleware, attribute(middleware, "__call__")):
        show.at(workspace.where_defined(place))
    with calling("TimingMiddleware(app), without any other argument, around a small app", workspace):
        status, ended = beside(middleware).small_app(middleware)
    if not ended:
        missing = "without the end of its answer" if status else "without an answer"
        raise AssertionError(
            Failure(
                f"the TimingMiddleware around a small app returned {missing}",
                wanted="every message passed on",
                hint=PASS_ON_HINT,
                where=where_they_send(lab, workspace),
            )
        )


def begun_in_service(service: Service, lab: LearnerModules, workspace: Workspace, show: Show) -> None:
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


def alone(lab: LearnerModules, service: Service, routes: Given) -> tuple[InProcess, Callable[[], dict[str, Any]]]:
    """The TimingMiddleware around an app with these routes, without create_app; and what its Metrics report.

    Where there is no Metrics, or a TimingMiddleware takes none, the learner's whole service stands in for it.
    """
    try:
        metrics = lab.timing.Metrics(1000)
        app = service.around(lab.timing.TimingMiddleware, metrics, routes)
    except (AttributeError, TypeError):
        whole = service(routes=routes)
        return whole, lambda: metrics_of(whole)
    return app, lambda: checked(metrics.report())


def was_held(gate: Probe, call: Pending) -> None:
    """Fail if a request has ended without its handler, which is held at the gate."""
    if not gate.calls and call.done:
        call.answer()  # what was raised on the way is the cause
    assert gate.calls or not call.done, Failure(
        f"{call.asked} was answered, and its handler was never called",
        wanted="each request reaches the app below, and its answer comes from there",
        hint=PASS_ON_HINT,
    )


def records_waiting(lab: LearnerModules, service: Service) -> bool:
    """Whether the time that a request waits is in what is recorded of it. 2.4 judges that, others only use it."""
    gate = Probe()
    app, report = alone(lab, service, Given("held", [gate]))
    call = app.get("/held")
    app.until(lambda: gate.inside)
    was_held(gate, call)
    time.sleep(HELD / 2)
    other = app.get("/held")  # a start that is kept for all requests is now this one's
    app.until(lambda: gate.inside == 2)
    gate.release(gate.calls[0])
    call.answer()
    recorded = series(report(), "GET /held")["max_ms"] / one_second(lab)
    gate.open()
    other.answer()
    return bool(recorded > HELD / 4)


def on_base_http(lab: LearnerModules, *, beside_it: bool = True) -> bool:
    """Whether TimingMiddleware is a BaseHTTPMiddleware of Starlette's, or keeps one.

    With `beside_it` also whether the service has one.
    """
    middleware = lab.timing.TimingMiddleware
    with suppress(Exception):  # it only chooses a hint
        return beside(middleware).on_base_http(middleware, lab.service.create_app if beside_it else None) is True
    return False


def times_counted(app: InProcess, requests: int) -> int:
    """How often the metrics count each of so many requests: once. 2.6 judges that, others only use it."""
    return max(1, total_count(metrics_of(app)) // max(1, requests))


def line_that_passes_on(lab: LearnerModules, workspace: Workspace, path: str) -> tuple[str | None, bool]:
    """The learner's line that calls the app below for this path, and whether it gives that the very scope that came."""
    middleware = lab.timing.TimingMiddleware
    line, same = beside(middleware).line_that_passes_on(middleware, path)
    return line and named(line, workspace), same is True


def where_they_send(lab: LearnerModules, workspace: Workspace, method: str = "GET", path: str = "/x") -> str | None:
    """The learner's own `send`, which the app below gets for this request; None where it gets the server's."""
    middleware = lab.timing.TimingMiddleware
    line = beside(middleware).send_below(middleware, method, path)
    return line and workspace.where_line(Path(str(line[0])), int(line[1]))


def line_that_logs(lab: LearnerModules, workspace: Workspace) -> tuple[str | None, bool, bool]:
    """The learner's line that calls `log`, whether that gets what the request was, and whether how long it took."""
    middleware = lab.timing.TimingMiddleware
    line, what, how_long = beside(middleware).logged_of_a_request(middleware)
    return line and named(line, workspace), what is True, how_long is True


def named(line: Line, workspace: Workspace) -> str | None:
    """A line that a cell has found, as a card names it."""
    path, number, function = line
    return workspace.where_line(Path(str(path)), int(number), str(function))


@contextmanager
def lines_that_record(lab: LearnerModules, workspace: Workspace) -> Iterator[list[str | None]]:
    """Collects the learner's lines that call `Metrics.record`, if there is one of that name."""
    lines: list[str | None] = []
    kind = getattr(lab.timing, "Metrics", None)
    if getattr(kind, "record", None) is None:
        yield lines
        return
    watched = beside(kind).Watched(kind)
    try:
        yield lines
    finally:
        lines += [named(line, workspace) for line in watched.over()]


def where_metrics_begin(lab: LearnerModules, workspace: Workspace) -> str | None:
    """The `__init__` of Metrics, or the class; `create_app`, where there is no Metrics."""
    kind = getattr(lab.timing, "Metrics", None)
    if kind is None:
        return workspace.where_defined(lab.service.create_app)
    return workspace.where_defined(attribute(kind, "__init__")) or workspace.where_defined(kind)


def where_classes_are_made(lab: LearnerModules, workspace: Workspace, status: int) -> str | None:
    """The line to change when a status is counted in a wrong class: `Metrics.record`, or None if that is right."""
    with suppress(Exception):  # it only points at a line
        metrics = lab.timing.Metrics(10)
        metrics.record("GET /x", status, 0.1, {})
        (found,) = metrics.report()["routes"].values()
        if {name for name, count in found["status"].items() if count} != {f"{status // 100}xx"}:
            return workspace.where_defined(lab.timing.Metrics.record)
    return None
