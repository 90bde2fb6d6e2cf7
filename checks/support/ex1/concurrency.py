"""What holds requests up that come at the same time: a thread, a pool, a lock."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.cell.stacks import stacks
from checks.harness.errors import LearnerError
from checks.harness.processes.http_client import FEATURES
from checks.harness.report.evidence import Timeline, timeline
from checks.harness.source_lines import SourceLines

PROBE = Probe.__module__
"""A stack with this module in it is a call inside the model."""


def requests_inside(questions: int, inside: int, asked: int, callers: int) -> int:
    """How many of the callers' requests were in the model together.

    A service may ask the model twice for each request, and it may ask another caller's question, which is 1.7's
    subject. So neither the different questions nor the calls inside are the number: the larger one is, with the calls
    divided by those of one request.
    """
    return max(questions, min(inside // max(1, asked // callers), callers))


def why_not_all(probe: Probe, together: int) -> tuple[str, str]:
    """Why not all requests to /predict got into the model together, and what mends it."""
    first = probe.calls[0]
    if first.blocking and first.on_loop:
        why = "it calls predict_blocking on the event loop's own thread, where nothing else can run meanwhile"
        return why, "In an `async def` everything that waits is awaited: `await model.predict(...)`."
    if not first.on_loop:
        why = "it runs on threads, " + (
            "one at a time, as under a lock" if together == 1 else "and there are no more of them"
        )
        return (
            why,
            "A plain `def` gets a thread of a pool of 40. An `async def` that awaits `model.predict` needs none.",
        )
    why = "the others wait for something on their way, such as a lock"
    return why, "Look for what only one, or a few, can hold at a time: a lock, a semaphore, a queue."


def why_not_the_pool(probe: Probe, together: int, pool: int, busy: int) -> tuple[str, str]:
    """Why another number of calls than the pool has threads was in the model, and what mends it."""
    first = probe.calls[0]
    plain = "A plain `def` that calls `model.predict_blocking`: FastAPI runs it on a thread of its pool."
    if not first.blocking:
        return ": the route awaits `predict`, which needs no thread", plain
    if first.on_loop:
        return ", on the event loop's own thread", plain
    if not busy:
        return ", on threads of another pool", f"{plain} `asyncio.to_thread` and an executor have threads of their own."
    if together > pool:
        return (
            f", and FastAPI's pool has {busy} threads in use",
            f"The pool keeps `settings.thread_pool_size` threads ({pool}): leave the limiter's `total_tokens` at that.",
        )
    return (
        ", and the others wait for something else than a thread, such as a lock",
        "Look for what only one, or a few, can hold at a time. The pool is the only limit that is wanted here.",
    )


def where_held_up(lines: SourceLines, number: int) -> str | None:
    """The learner's line at which most calls wait that are not in the model, at most `number` of them.

    A line where more of them are, such as a middleware's, is on the way of those inside, too.
    """
    outside = (stack for stack in stacks() if all(frame.f_globals.get("__name__") != PROBE for frame, _ in stack))
    found = Counter(filter(None, map(lines.where_frames, outside)))
    return next((line for line, count in found.most_common() if count <= number), None)


def needs_no_thread(app: InProcess, get_model: object, lines: SourceLines) -> None:
    """/predict with the learner's own model answers while all threads of the pool are taken."""
    app.app.dependency_overrides.clear()
    with app.pool_taken():
        call = app.post("/predict", content=FEATURES)
        app.until(lambda: call.done)
        waited = not call.done
    app.until(lambda: call.done)
    if not waited or not call.done:
        return  # whatever became of it, it was no thread that it waited for
    plain = not asyncio.iscoroutinefunction(get_model)
    what = "get_model is a plain `def`" if plain else "something on its way to the model needs one"
    raise LearnerError(
        f"/predict waited for a thread of the pool: {what}",
        lines.where_defined(get_model) if plain else app.where_routed,
        wanted="an answer while all 40 threads are taken",
        hint="FastAPI runs a plain `def` dependency on the pool, too: `async def get_model(...)` needs no thread."
        if plain
        else "Look for `run_in_threadpool`, and for a dependency that is a plain `def`.",
    )


def staircase(title: str, calls: dict[tuple[float, ...], Pending], probe: Probe) -> Timeline:
    """The requests that wait for the model and are in it, in the order in which they got there."""
    now = time.perf_counter()
    sent = sorted(call.sent for call in calls.values())
    inside = sorted(probe.calls, key=lambda call: call.entered)
    rows = [("", s, call.entered, call.left or now) for s, call in zip(sent, inside, strict=False)]
    rows += [("", s, now, now) for s in sent[len(rows) :]]
    return timeline(rows, title, note="where the lab held them")
