"""2.11: the service on a real server, its figures beside the client's, and what the middleware costs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from checks.harness.assertions.cpu_cost import (
    FILLED,
    cost_of_a_full_window,
    middleware_costs,
)
from checks.harness.assertions.metrics_page import FIGURES, checked, figures_in, metrics_of, series
from checks.harness.cell.given_routes import Given
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure, Inconclusive
from checks.harness.fixtures import Service
from checks.harness.grading.noise import EARLY, blame_the_machine_if, blame_the_machine_if_busy
from checks.harness.load.generator import closed_loop
from checks.harness.load.trace import Trace
from checks.harness.machine import fair_clock, load_in_words
from checks.harness.processes.servers import Server
from checks.harness.report.evidence import Show
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.middleware import BASE_HINT, HELD, on_base_http, times_counted, was_held, where_metrics_begin
from checks.support.ex2.windows import forgets, one_second

REQUESTS, CONNECTIONS = 400, 16
TIMEOUT = 30.0
"""Seconds that a request may take."""
DEAREST, GROWTH = 3.0, 2.0

SETTING_HINT = "`Metrics(settings.latency_window)` in create_app."
STAGES_HINT = (
    "In Metrics each stage has a LatencyWindow of the same size as its route: the `window` that `__init__` gets."
)
EVERY_REQUEST_HINT = "Record every request, in each process and on each server."
UNIT_HINT = "Seconds and ms are mixed up on the way to `record`, which takes seconds."
BETWEEN_HINT = (
    "Measure from the first line of `__call__` to the last body message: that is the client's wait without the network."
)
CHEAP_HINT = "Pure ASGI: a class with `__call__(scope, receive, send)`, no task and no Request object for each request."
REPORT_HINT = "Let `report` do the arithmetic: it is called every few seconds, and `record` in every request."


@dataclass(frozen=True, slots=True)
class WindowOfThree:
    """The service with `latency_window=3`: one slow request, then three quick ones. Seconds as the client saw them."""

    hold: float
    slow: float
    quickest_limit: float
    early: dict[str, Any]
    late: dict[str, Any]
    times: int
    own: bool
    """Whether the metrics are this app's alone. 2.6 judges that."""


def slow_then_three_quick(service: Service) -> WindowOfThree:
    """What GET /metrics reports of a route after a slow request, and again after three quick ones."""
    gate = Probe()
    app = service(routes=Given("held", [gate], {"stage": "work"}), latency_window=3, inference_seconds=0)
    own = not metrics_of(app)["routes"]
    first = app.get("/nowhere")
    first.answer()
    assert first.finished is not None
    hold = max(HELD, 10 * (first.finished - first.sent))  # much longer than a quick one takes on this machine now
    slow = app.get("/held")
    app.until(lambda: gate.inside)
    was_held(gate, slow)
    time.sleep(hold)  # this is the model's work
    gate.open()
    slow.answer()
    early = series(metrics_of(app), "GET /held")
    quick = [app.get("/held") for _ in range(3)]
    for call in quick:
        call.answer()
    assert slow.finished is not None
    most = max(call.finished - call.sent for call in quick if call.finished is not None)
    late = series(metrics_of(app), "GET /held")
    return WindowOfThree(hold, slow.finished - slow.sent, most, early, late, times_counted(app, 5), own)


def setting_reaches_all_windows(seen: WindowOfThree, lab: LearnerModules, workspace: Workspace) -> None:
    """The slow request is forgotten in the route's window and in its stages'.

    Whether a window forgets at all, 2.3 judges; whether the slow request was recorded as slow, 2.4.
    """
    if not forgets(lab) or not seen.own:
        return
    second = one_second(lab)
    stages = [
        (f"its stage {name!r}", seen.early["stages"][name], seen.late["stages"][name]) for name in seen.early["stages"]
    ]
    for number, (whose, then, now) in enumerate([("the route", seen.early, seen.late), *stages]):
        known = seen.slow * second * 1.01 >= then["max_ms"] >= seen.hold * second > seen.quickest_limit * second
        assert now["max_ms"] < then["max_ms"] or not known, Failure(
            f"with a latency_window of 3, max_ms of {whose} is still {now['max_ms']:.0f} when three quicker requests "
            "have followed",
            wanted="a smaller max_ms: latency_window is the size of every window, so the slow request is forgotten",
            hint=STAGES_HINT if number else SETTING_HINT,
            where=where_metrics_begin(lab, workspace) if number else workspace.where_defined(lab.service.create_app),
        )


def load(server: Server) -> Trace:
    """400 predictions over 16 connections, all answered. `Inconclusive` where the machine was too busy for that."""
    with fair_clock() as clock:
        headers = [("content-type", "application/json")]
        trace = closed_loop(
            f"{server.url}/predict",
            connections=CONNECTIONS,
            requests=REQUESTS,
            body=b'{"features": [1.0, 2.0]}',
            headers=headers,
            timeout=TIMEOUT,
        )
    if trace.errors and clock.busy and not any(request.status for request in trace.requests if not request.ok):
        raise Inconclusive(f"this machine is too busy for answers in {TIMEOUT:g} s: {load_in_words()}")
    assert not trace.errors, Failure(f"of {len(trace.requests)} requests {dict(trace.errors)}", wanted="200 for all")
    return trace


def page_of(server: Server) -> dict[str, Any]:
    """What GET /metrics of a real server answers. `Inconclusive` where the machine was too busy for that."""
    with fair_clock() as clock:
        trace = closed_loop(
            f"{server.url}/metrics", connections=1, requests=1, method="GET", keep_bodies=True, timeout=TIMEOUT
        )
    page = trace.requests[0]
    if page.error:
        blame_the_machine_if_busy(clock, "whether GET /metrics is answered")
    assert page.ok, Failure(f"GET /metrics: {page.error or page.status}", wanted="200")
    return checked(json.loads(page.body or b"null"))


def figures_lie_between(
    own: dict[str, Any], trace: Trace, seconds: float, lab: LearnerModules, show: Show, *, waiting_counts: bool
) -> None:
    """Each figure is at least the model's and at most the client's, by the learner's own arithmetic: see 2.2.

    `waiting_counts` is whether waiting is recorded at all: where it is not, 2.4 says so.
    """
    windows = [lab.timing.LatencyWindow(1000) for _ in range(2)]
    for latency in trace.latencies():
        windows[0].record(seconds - EARLY)
        windows[1].record(latency)
    model, client = (figures_in(window.summary(), "the summary of a window") for window in windows)
    rows = [(name, *(f"{figures[name]:.1f}" for figures in (model, own, client))) for name in FIGURES]
    show.table(f"{len(trace.requests)} requests, in ms", ("", "model", "service says", "client saw"), rows)
    for name in FIGURES:
        mixed = any(model[name] <= own[name] * factor <= client[name] * 1.01 for factor in (1000, 1 / 1000))
        least = model[name] if waiting_counts else 0
        assert least <= own[name] <= client[name] * 1.000001 + 0.001, Failure(
            f"the service says {name} = {own[name]:.6g}, the client saw {client[name]:.6g}, and the model alone took "
            f"{model[name]:.6g}",
            wanted="model <= service <= client, as it is for every single request",
            hint=UNIT_HINT if mixed else BASE_HINT if own[name] > client[name] and on_base_http(lab) else BETWEEN_HINT,
        )


def costs_little(lab: LearnerModules, workspace: Workspace, show: Show) -> None:
    """A request costs at most three times what it costs without the middleware, and no more after many requests."""
    timing = lab.timing.TimingMiddleware
    ratio, base, nothing = middleware_costs(timing, "base http", "nothing")
    show.table(
        "CPU time of a request in process, as a multiple of the bare FastAPI route's",
        ("your TimingMiddleware", "one built on BaseHTTPMiddleware"),
        [(f"{ratio:.2f}", f"{base:.2f}")],
    )
    show.number(f"{ratio:.2f} x bare; BaseHTTP {base:.2f} x", ratio)
    if ratio > DEAREST:
        blame_the_machine_if(nothing, DEAREST)
    assert ratio <= DEAREST, Failure(
        f"with your TimingMiddleware a request costs {ratio:.1f} times what it costs without ({base:.1f} with one "
        "built on BaseHTTPMiddleware)",
        wanted="at most 3 times, and about 1.2 is possible",
        hint=BASE_HINT if on_base_http(lab, beside_it=False) else CHEAP_HINT,
    )
    growth = cost_of_a_full_window(timing)
    if growth > GROWTH:
        blame_the_machine_if(cost_of_a_full_window(timing, "nothing"), GROWTH)
    assert growth <= GROWTH, Failure(
        f"after {FILLED} requests your TimingMiddleware takes {growth:.1f} times as long for a request as in "
        "the beginning",
        wanted="the same: a request must not sort the samples of earlier requests",
        hint=REPORT_HINT,
        where=workspace.where_defined(getattr(getattr(lab.timing, "Metrics", None), "record", None)),
    )
