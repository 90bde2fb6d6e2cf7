"""What holds requests up that come at the same time: a thread, a pool, a lock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

from checks.harness.assertions.answers import calls_inside, close
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Call, Probe
from checks.harness.errors import LearnerError
from checks.harness.fixtures import Service
from checks.harness.judge.handles import is_async
from checks.harness.processes.single_requests import FEATURES
from checks.harness.report.evidence import Timeline, timeline
from checks.harness.source_lines import SourceLines
from checks.support.ex1.answers import ask, number_in


def requests_inside(held: Sequence[Call], asked: int, calls: dict[tuple[float, ...], Pending]) -> int:
    """How many of these requests were in the model together, when it held the calls `held`. It was `asked` so often.

    A call counts that belongs to one of the requests: it asks what one of them was sent with, or one of them was
    answered with its answer, which nobody can guess. A service may ask the model twice for each request, and it may ask
    another caller's question, which is 1.7's subject. So neither the different questions nor the calls inside are the
    number: the larger one is, with the calls divided by those of one request.
    """
    answers = [number for request in calls.values() if (number := number_in(request)) is not None]
    theirs = [
        call for call in held if call.features in calls or any(close(call.answer or 0.0, answer) for answer in answers)
    ]
    each = max(1, asked // len(calls))
    return max(len({call.features for call in theirs}), min(len(theirs) // each, len(calls)))


def why_not_all(probe: Probe, together: int, busy: int) -> tuple[str, str]:
    """Why not all requests to /predict got into the model together, and what mends it.

    `busy` threads of FastAPI's pool were in use.
    """
    first = probe.calls[0]
    if first.blocking and first.on_loop:
        why = "it calls predict_blocking on the event loop's own thread, where nothing else can run meanwhile"
        return why, "In an `async def` everything that waits is awaited: `await model.predict(...)`."
    if not first.on_loop and not busy:
        return (
            "it runs on threads of another pool than FastAPI's, and that pool has no free thread",
            "`asyncio.to_thread` and an executor take a thread for each call. `await model.predict(...)` needs none.",
        )
    if not first.on_loop:
        why = "it runs on threads, " + (
            "one at a time, as under a lock" if together == 1 else "and there are no more of them"
        )
        return (
            why,
            "A plain `def` gets a thread of a pool of 40. An `async def` that awaits `model.predict` needs none.",
        )
    why = "the others wait for something else before the model call, such as a lock"
    return why, "Look for something that only one, or a few, can hold at a time: a lock, a semaphore, a queue."


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
        ". The others do not wait for a thread. They wait for something else, such as a lock",
        "Look for something that only one, or a few, can hold at a time. Here the pool must be the only limit.",
    )


def own_way_to_the_model(service: Service, callers: int, rng: Random) -> None:
    """All callers get through the learner's own `get_model` together; a model that it has elsewhere is not judged."""
    probe = Probe()
    app = service(model=probe, own_way=True)
    calls = ask(app, "/predict", rng, callers)
    app.until(lambda: probe.questions_inside == callers or app.where_slept())
    held, slept = probe.held_calls, app.where_slept()
    held_up = app.where_held_up(callers - probe.questions_inside)
    probe.open()
    if slept:
        raise LearnerError(
            "time.sleep was called on the event loop's own thread on the way to the model, which stopped all other "
            "requests",
            slept,
            wanted="every wait in an `async def` is awaited, also in a dependency",
            hint="`await asyncio.sleep(...)` waits and lets the others run. If something takes long to load, load "
            "it once, in `create_app` or the lifespan.",
        )
    app.finish([*calls.values()], seconds=3)
    together = requests_inside(held, len(probe.calls), calls)
    if not together or together == callers:
        return
    raise LearnerError(
        f"{calls_inside(together, callers)}: the others wait in the dependency that gives them the model",
        held_up,
        wanted=f"all {callers}",
        hint="A dependency with `yield` lasts as long as its request: a lock or a semaphore around the `yield` lets in "
        "only as many requests as it has places.",
    )


def needs_no_thread(app: InProcess, get_model: object, lines: SourceLines) -> None:
    """/predict with the learner's own model answers while all threads of the pool are taken."""
    app.use_their_model()
    with app.pool_taken():
        call = app.post("/predict", content=FEATURES)
        app.until(lambda: call.done)
        waited = not call.done
    app.until(lambda: call.done)
    if not waited or not call.done:
        return  # whatever became of it, it was no thread that it waited for
    found = app.plain_dependency or (None if is_async(get_model) else ("get_model", "plain `def`", get_model))
    if found is None:
        raise LearnerError(
            "/predict waited for a thread of the pool: something before the model call needs one",
            app.where_routed,
            wanted="an answer while all 40 threads are taken",
            hint="Look for `run_in_threadpool`.",
        )
    name, kind, dependency = found
    raise LearnerError(
        f"/predict waited for a thread of the pool: {name} is a {kind}",
        lines.where_defined(dependency),
        wanted="an answer while all 40 threads are taken",
        hint=f"FastAPI calls a dependency that is a {kind} on the pool, too: `async def {name.lower()}(...)` needs no "
        "thread.",
    )


def staircase(title: str, calls: dict[tuple[float, ...], Pending], probe: Probe) -> Timeline:
    """The requests that wait for the model and are in it, in the order in which they got there."""
    now = time.perf_counter()
    sent = sorted(call.sent for call in calls.values())
    inside = sorted(probe.calls, key=lambda call: call.entered)
    rows = [("", s, call.entered, call.left or now) for s, call in zip(sent, inside, strict=False)]
    rows += [("", s, now, now) for s in sent[len(rows) :]]
    return timeline(rows, title, note="where the lab held them")
