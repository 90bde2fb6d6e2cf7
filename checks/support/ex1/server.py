"""1.9's real server: two bursts, what they show, and whether the settings reach the model."""

from __future__ import annotations

import re

from checks.harness.errors import Failure, LearnerError
from checks.harness.fixtures import Service
from checks.harness.grading.noise import EARLY, blame_the_machine_if_unanswered
from checks.harness.load.generator import closed_loop
from checks.harness.load.trace import Trace
from checks.harness.machine import fair_clock
from checks.harness.processes.servers import Server
from checks.harness.processes.single_requests import FEATURES
from checks.harness.report.evidence import Show, timeline
from checks.harness.source_lines import SourceLines

AWAITED, BLOCKING = "/predict", "/predict/blocking"
CONNECTIONS = 32
FEW = 4
"""Blocking requests: enough to see it. 32 would take 32 times as long as one."""
LIMIT = 30.0
"""Seconds that an idle machine would need at most for one answer."""


def burst(server: Server, path: str, requests: int) -> Trace:
    """So many requests at once, each on a connection of its own."""
    with fair_clock() as clock:
        trace = closed_loop(
            f"{server.url}{path}",
            connections=requests,
            requests=requests,
            body=FEATURES,
            headers=[("content-type", "application/json")],
            timeout=LIMIT,
        )
    if any(request.error for request in trace.requests):
        blame_the_machine_if_unanswered(clock, path, LIMIT)
    return trace


def all_answered(path: str, trace: Trace, server: Server, lines: SourceLines) -> None:
    """Each request got a 200."""
    failed = [request.error or f"status {request.status}" for request in trace.requests if not request.ok]
    if not failed:
        return
    output = server.output()
    raised = re.findall(r"^(\w[\w.]*(?:Error|Exception|Exit)\b.*)$", output, re.MULTILINE)
    said = f": the server printed {raised[-1][:100]}" if raised else ""
    raise LearnerError(
        f"{len(failed)} of {len(trace.requests)} calls of {path}: {failed[0]}{said}",
        lines.where_printed(output),
        wanted="200 for all",
        hint="The app works in the process of the checks, but not under uvicorn. Start it by hand, and read what it "
        "prints: `uv run uvicorn --factory lab.service:create_app`.",
    )


def show_both(show: Show, awaited: Trace, blocking: Trace, seconds: float) -> None:
    """The two bursts as timelines, and prediction beside measurement as a table."""
    predicted = {AWAITED: seconds, BLOCKING: FEW * seconds}
    rows = []
    for path, trace in ((AWAITED, awaited), (BLOCKING, blocking)):
        ended = sorted((request.finished or 0.0, request.sent or 0.0) for request in trace.requests)
        spans: list[tuple[str, float, float | None, float]] = [
            ("", sent, finished - seconds, finished) for finished, sent in ended[:: len(ended) // FEW]
        ]
        show.picture(timeline(spans, f"{len(spans)} of {len(ended)} requests to {path}"))
        last = max(trace.latencies())
        rows.append((path, len(ended), f"{predicted[path]:.2f}", f"{last:.2f}", f"{trace.throughput:.1f}"))
    columns = (f"one model call: {seconds} s", "requests", "predicted s", "measured s", "requests/s")
    show.table("prediction beside measurement", columns, rows)


def settings_reach_the_model(service: Service, awaited: Trace, blocking: Trace, seconds: float) -> None:
    """The model waits as long as the environment says, and as long as the settings say that `create_app` is given."""
    hint = "`settings = settings or Settings()`, and then `SimulatedModel(settings.inference_seconds)`."
    fastest = min(awaited.latencies())
    assert fastest >= seconds - EARLY, Failure(
        f"with LAB_INFERENCE_SECONDS={seconds} a request to /predict was answered after {fastest:.3f} s",
        wanted=f"never before {seconds} s: the setting must reach the model",
        hint=hint,
    )
    app = service(inference_seconds=3600)
    call = app.post(AWAITED, content=FEATURES)
    app.until(lambda: call.done)
    assert not call.done, Failure(
        "an app of create_app(Settings(inference_seconds=3600)) has answered /predict already",
        wanted="a wait of an hour: the settings passed to `create_app` must reach the model, too",
        hint=hint,
    )
    slowest = max(blocking.latencies())
    assert slowest >= FEW * (seconds - EARLY), Failure(
        f"{FEW} requests to {BLOCKING} took {slowest:.2f} s",
        wanted=f"at least {FEW} x {seconds} s: one after the other",
        hint="See 1.6: an `async def` that calls `model.predict_blocking`, and nothing else in between.",
    )
