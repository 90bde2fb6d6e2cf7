"""2.4: the requests whose Server-Timing is held against the model's time and the client's."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial

from checks.harness.assertions.server_timing import (
    ROUNDING,
    Sandwich,
    durations,
    no_longer_than_the_client,
    sandwiches,
    server_timing,
)
from checks.harness.cell.given_routes import COOKIES, Given
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.fixtures import Service
from checks.harness.load.trace import MS
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.middleware import HELD, alone, line_that_passes_on, where_they_send

METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
APPEND_HINT = (
    "Append to the message's headers, do not replace them: `[*message.get('headers', ()), (b'server-timing', ...)]`."
)
AROUND_HINT = "Measure around the whole app, in the middleware: when the handler starts, the wait is over."

Question = tuple[float, ...]


def ask(app: InProcess, path: str, rng: random.Random) -> tuple[Question, Pending]:
    """Random features, unlike any others, and the request that sends them."""
    question = tuple(rng.uniform(-100, 100) for _ in range(rng.randint(2, 8)))
    return question, app.post(path, {"features": question})


def every_answer_has_one(app: InProcess, lab: LearnerModules, workspace: Workspace) -> None:
    """Whatever the path, method and status: there is a Server-Timing, and the client waited at least as long."""
    refused = app.post("/predict", content=b"no JSON")
    headers = refused.answer().headers
    what = f"the answer {refused.answer().status_code} to POST /predict without JSON"
    named = "app" in durations(headers.get("server-timing", ""))
    where = where_it_is_written(lab, workspace) if named else where_they_send(lab, workspace)
    no_longer_than_the_client(server_timing(headers, what, where), refused, what)
    for method, path in [("GET", "/health"), *((method, "/nowhere") for method in METHODS)]:
        call = app.drive(method, path)
        answer = call.answer()
        what = f"the answer {answer.status_code} to {method} {path}"
        where = None
        if "server-timing" not in answer.headers:
            where = where_they_send(lab, workspace, method, path) or line_that_passes_on(lab, workspace, path)[0]
        no_longer_than_the_client(server_timing(answer.headers, what, where), call, what)


def where_it_is_written(lab: LearnerModules, workspace: Workspace) -> str | None:
    """The line that makes the text of a Server-Timing, or else the learner's own `send`."""
    file = workspace.tree / "lab" / "timing.py"
    written = next(filter(None, (workspace.where_written(file, text) for text in ("dur={", "dur=%"))), None)
    return written or where_they_send(lab, workspace)


def headers_are_kept(app: InProcess, lab: LearnerModules, workspace: Workspace, rng: random.Random) -> None:
    """The app's own headers are still on the answer."""
    answer = ask(app, "/predict", rng)[1].answer()
    lost = [name for name in ("content-type", "content-length") if name not in answer.headers]
    assert not lost, Failure(
        f"the answer to /predict has lost its {' and '.join(lost)}",
        wanted="the app's own headers, and Server-Timing",
        hint=APPEND_HINT,
        where=where_they_send(lab, workspace),
    )


def no_header_is_merged(lab: LearnerModules, workspace: Workspace, service: Service) -> None:
    """An app may send a header twice, such as Set-Cookie."""
    app, _ = alone(lab, service, Given("context"))
    cookies = app.get("/context/cookies").answer().headers.get_list("set-cookie")
    assert len(cookies) == len(COOKIES), Failure(
        f"an answer with {len(COOKIES)} Set-Cookie headers passed the TimingMiddleware, and {len(cookies)} of them "
        f"came out{': ' + cookies[0] if cookies else ''}",
        wanted="all of the app's own headers, and Server-Timing",
        hint=f"A header name may occur twice, and a dictionary keeps only one of the two. {APPEND_HINT}",
        where=where_they_send(lab, workspace),
    )


def one_after_the_other(app: InProcess, probe: Probe, rng: random.Random) -> list[Sandwich]:
    """Four requests, each sent when the one before is answered."""
    found = []
    for _ in range(4):
        question, call = ask(app, "/predict", rng)
        found += sandwiches(probe, [(question, call)])
    return found


def long_hold(found: Sequence[Sandwich]) -> float:
    """Seconds of a hold that is a multiple of what requests take beside the model on this machine now."""
    return max(HELD, 10 * max(one.client - one.took for one in found) / MS)


def fifty_together(service: Service, rng: random.Random) -> list[Sandwich]:
    """Fifty requests that are in the model together, and leave it in random order."""
    probe = Probe()
    app = service(model=probe)
    app.get("/health").answer()
    calls = [ask(app, "/predict", rng) for _ in range(50)]
    app.until(lambda: probe.inside == len(calls))
    for held in rng.sample(probe.calls, len(probe.calls)):
        call = next(call for question, call in calls if question == held.features)
        probe.release(held)
        app.until(partial(getattr, call, "done"))
    probe.open()
    return sandwiches(probe, calls)


def sixty_for_forty_threads(
    service: Service, rng: random.Random, hold: float
) -> tuple[list[Sandwich], list[Sandwich], float]:
    """Sixty requests to /predict/threaded, of which twenty wait `hold` seconds for a thread.

    Returns all of them, those that waited for a thread, and when the wait was seen.
    """
    probe = Probe()
    app = service(model=probe)
    calls = [ask(app, "/predict/threaded", rng) for _ in range(60)]
    app.until(lambda: probe.inside == len(calls))  # all that can come are inside, the others wait for a thread
    settled, first = time.perf_counter(), list(probe.calls)
    time.sleep(hold)  # this is the model's work
    for held in first:
        probe.release(held)
    app.until(lambda: probe.inside == len(calls) - len(first))
    time.sleep(HELD)
    probe.open()
    rows = sandwiches(probe, calls)
    return rows, [row for row in rows if row.model.entered > settled], settled


def waiting_is_recorded(row: Sandwich, settled: float) -> None:
    """The Server-Timing of a request that waited for a thread has both the wait and the model's time in it."""
    assert row.model.left is not None
    least = (row.model.left - settled) * 1000
    assert row.recorded >= least - ROUNDING, Failure(
        f"a request that waited {(row.model.entered - settled) * 1000:.0f} ms for a thread and then "
        f"{row.took:.0f} ms in the model has {row.recorded:.0f} ms in Server-Timing",
        wanted=f"at least {least:.0f} ms, the waiting included",
        hint=AROUND_HINT,
    )
