"""4.5: so many requests inside, so many waiting in order, the others refused at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from checks.harness.assertions.admission_walk import COLUMNS, Row, Stray, Walk
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Call, Probe
from checks.harness.errors import Failure
from checks.harness.judge.visits import visits
from checks.harness.report.evidence import Show, Timeline, timeline
from checks.support.ex4.lines import WALK, Lines
from checks.support.ex4.requests import (
    Calls,
    all_done,
    how_it_ended,
    line_up,
    raise_what_crashed,
    require_model_calls,
    send,
)

Start = Callable[..., InProcess]

REFUSED = 503
STEPS = 1000
"""Steps of the random walk."""
SHOWN_STEPS = 5
A_SECOND = 1.05
"""Seconds after which a limit of so many requests a second lets more in."""


class Scene:
    """The learner's app with `slots` and `places`, the requests that were sent, and the steps so far."""

    def __init__(self, app: InProcess, probe: Probe, slots: int, places: int, lines: Lines) -> None:
        self.app, self.probe, self.slots, self.places, self.lines = app, probe, slots, places, lines
        self.sent: list[Pending] = []
        self.steps: list[Row] = []

    def step(self, what: str, calls: Calls, inside: int, waiting: int) -> None:
        """Note what happened, with how many requests are now inside and waiting, beside how many should be."""
        self.sent += [call for call in calls.values() if call not in self.sent]
        waits = sum(not call.done for call in self.sent) - self.probe.inside
        self.steps.append((what, self.probe.inside, inside, waits, waiting))

    @contextmanager
    def shown_if_it_fails(self, show: Show) -> Iterator[None]:
        """Show the last steps if the body fails."""
        try:
            yield
        except Exception:
            if self.steps:
                show.table("the last steps", COLUMNS, self.steps[-SHOWN_STEPS:])
            raise


def first_come_first_served(scene: Scene, rng: random.Random) -> Timeline:
    """Fill all slots and places, see who is refused, then empty them one by one: the picture of that."""
    app, probe, slots, places = scene.app, scene.probe, scene.slots, scene.places
    calls = line_up(app, rng, slots + places)
    app.go_on_until(lambda: probe.inside > slots)
    require_model_calls(app, probe, calls)
    raise_what_crashed(calls)
    scene.step(f"{len(calls)} arrived, one by one", calls, slots, places)
    assert probe.inside <= slots, too_many_inside(scene, rng)
    swapped = probe.inside == places and scene.lines.is_right_alone if probe.inside != slots else False
    assert probe.inside == slots, Failure(
        f"with max_in_flight={slots} only {probe.inside} call{'s are' if probe.inside != 1 else ' is'} in the model",
        f"{slots}: each request holds one slot",
        f"Is max_queue={places} used in place of max_in_flight?"
        if swapped
        else "Does a request take its slot more than once? `acquire()` takes one, and `async with` takes one more.",
        scene.lines.create_app if swapped else scene.lines.passes,
    )
    early = [call for call in calls.values() if call.done]
    assert not early, not_kept_waiting(early, places, scene.lines)

    refused = everything_else_is_refused(app, rng, scene.lines)
    scene.step(f"{len(refused)} more arrived", refused, slots, places)
    what_is_never_refused(app, [*refused.values()], scene.lines)
    return in_order_of_arrival(scene, calls)


def too_many_inside(scene: Scene, rng: random.Random) -> Failure:
    """More calls are inside than there are slots: what it may be that lets them in."""
    slots, places = scene.slots, scene.places
    scene.app.go_on_until(lambda: scene.probe.inside == slots + places)
    inside = scene.probe.inside
    scene.step("a moment later", {}, slots, places)
    seen = f"with max_in_flight={slots} {inside} calls are in the model together"
    if inside == places and scene.lines.is_right_alone:
        return Failure(
            seen, f"{slots}", f"Is max_queue={places} used in place of max_in_flight?", scene.lines.create_app
        )
    if inside == slots + 1:
        return Failure(seen, f"{slots}", "One request too many gets in: `<` or `<=`?", scene.lines.decides)
    more = send(scene.app, "/predict", rng, 3 * (slots + places))
    scene.app.go_on_until(lambda: all_done(more.values()))
    scene.step(f"{len(more)} more arrived at once", more, slots, places)
    control = scene.lines.control
    if not any(call.done for call in more.values()) and "inside" in what_becomes_of_a_second(control):
        hint = (
            "The class itself lets in every request. A coroutine without `await` does nothing: "
            "`self.gate.acquire()` takes no slot, and `if self.admitted():` is always true."
        )
        return Failure(
            f"{seen}, and no request is refused",
            f"{slots}, and a 503 for what cannot wait",
            hint,
            scene.lines.passes,
        )
    if not any(call.done for call in more.values()):
        hint = "In create_app: `app.add_middleware(AdmissionControl, ...)` with the three numbers of the settings."
        return Failure(
            f"{seen}, and no request is refused",
            f"{slots}, and a 503 for what cannot wait",
            hint,
            scene.lines.create_app,
        )
    before = scene.probe.inside
    time.sleep(A_SECOND)
    late = send(scene.app, "/predict", rng, 1)
    scene.app.go_on_until(lambda: scene.probe.inside > before or all_done(late.values()))
    scene.step("a second later one more arrived", late, slots, places)
    if max(scene.probe.inside, before) > slots + places:
        return Failure(
            f"{seen}, and a second later one more is let in, although no request has ended",
            f"{slots}: a limit of requests per second does not limit how many are inside",
            "Count how many are inside: one more when a request gets in, one less in `finally`, when it ends.",
            scene.lines.decides,
        )
    return Failure(
        f"{seen}, including those that should wait",
        f"{slots} inside, and {places} that wait until one of them ends",
        "Keep two counts. A request that waits has no slot: let it await a Future until it gets a slot.",
        scene.lines.decides,
    )


def what_becomes_of_a_second(control: Callable[..., Any]) -> set[str]:
    """Whether a bare AdmissionControl with a single slot and no queue lets a second request in, or answers it."""
    found = set[str]()

    def told(visitor: int, how: str, *_: object, **__: object) -> None:
        if visitor == 1:
            found.add(how)

    with visits(control, {"max_in_flight": 1, "max_queue": 0, "queue_seconds": 60.0}, told) as take:
        take([("arrive", 0, ""), ("arrive", 1, "")], 0.0)
        return {*found}


def not_kept_waiting(early: list[Pending], places: int, lines: Lines) -> Failure:
    """Some requests were answered that could have waited."""
    seconds = (early[0].finished or 0) - early[0].sent
    return Failure(
        f"{len(early)} of {places} requests that could wait were not kept waiting: "
        f"{how_it_ended(early[0])} after {seconds:.2f} s",
        f"max_queue={places} requests wait for a slot, up to queue_seconds=60",
        "The time is `self.queue_seconds`, in seconds, for each request."
        if seconds > 0.05
        else "Refuse only when `max_queue` requests wait already.",
        lines.decides,
    )


def everything_else_is_refused(app: InProcess, rng: random.Random, lines: Lines) -> Calls:
    """With all slots and places taken, the next requests get a 503 at once; returns them."""
    refused = send(app, "/predict", rng, 3) | send(app, "/predict/threaded", rng, 1)
    app.go_on_until(lambda: all_done(refused.values()))
    for call in refused.values():
        hint, where = ("", None) if call.done else why_no_refusal(call, lines)
        assert call.done, Failure(
            f"all slots and places are taken, and one more {call.asked} gets no answer",
            "a 503 at once, while the others are held",
            hint,
            where,
        )
        answer = call.answer()
        status, path = answer.status_code, answer.url.path
        assert status == REFUSED, Failure(
            f"all slots and places are taken, and one more call of {path} is answered {status}",
            "503: the service has too much to do; the caller did nothing wrong",
            "`Service Unavailable` is 503, `Too Many Requests` (of this caller) is 429.",
            lines.refusal,
        )
        says_when_to_come_again(answer, lines)
    return refused


def why_no_refusal(call: Pending, lines: Lines) -> tuple[str, str | None]:
    """The hint, and the line to change, where a request waits that has no place to wait."""
    if not call.asked.endswith("/predict"):
        return "The limit is for the path `/predict` and all paths below it.", lines.call
    if what_becomes_of_a_second(lines.control) == {"answered"}:
        return "In create_app, give the AdmissionControl `max_queue=settings.max_queue`.", lines.create_app
    return "Refuse when `max_queue` requests wait already: compare before you begin to wait.", lines.decides


def what_is_never_refused(app: InProcess, refused: list[Pending], lines: Lines) -> None:
    """Other paths are answered while all slots are taken, and a refusal is timed as every answer is."""
    for path, wanted in (("/health", 200), ("/openapi.json", 200), ("/predictions", 404)):
        page = app.get(path)
        app.go_on_until(lambda page=page: page.done)  # type: ignore[misc]
        status = page.answer().status_code if page.done else "nothing"
        assert status == wanted, Failure(
            f"all slots and places are taken, and GET {path} gets {status}",
            f"{wanted}, always",
            "The limit is only for the path `/predict` and for paths that begin with `/predict/`.",
            lines.call,
        )
    if "server-timing" in app.get("/health").answer().headers:
        assert all("server-timing" in call.answer().headers for call in refused), Failure(
            "a refusal has no Server-Timing, although other answers have one",
            "the timing is outermost, and counts refusals, too",
            "In create_app, add the AdmissionControl before the TimingMiddleware: the last one added is the outermost.",
            lines.create_app,
        )


def in_order_of_arrival(scene: Scene, calls: Calls) -> Timeline:
    """Release the longest call again and again: each time the request that waits longest must get in."""
    app, probe, order = scene.app, scene.probe, list(calls)
    while probe.inside:
        longest: Call = min((call for call in probe.calls if call.left is None), key=lambda call: call.entered)
        due = len(probe.calls) + (len(probe.calls) < len(order))
        probe.release(longest)
        app.go_on_until(lambda due=due, longest=longest: len(probe.calls) >= due and longest.left)  # type: ignore[misc]
        left = sum(call.left is not None for call in probe.calls)
        scene.step("one ended", {}, min(scene.slots, len(order) - left), max(0, len(order) - left - scene.slots))
        assert len(probe.calls) >= due, Failure(
            "a call ended, and no waiting request got its slot",
            "the request that waits longest gets it",
            "When a request ends, give its slot to a waiting request, in `finally:`.",
            scene.lines.hands,
        )
    came = [call.features for call in probe.calls]
    picture = queue_picture(f"{scene.slots} slots, {scene.places} places to wait", calls, probe)
    assert came == order, Failure(
        f"the requests got into the model in the order {[order.index(features) + 1 for features in came]}",
        "first come, first served",
        "When a request ends, give its slot to the request that waits longest: `popleft()` of a deque.",
        scene.lines.hands,
    )
    for call in calls.values():
        status = call.answer().status_code
        assert status == 200, Failure(f"a request that had waited for its slot got {status}", "200")
    return picture


def queue_picture(title: str, calls: Calls, probe: Probe) -> Timeline:
    """Each request's wait for a slot and its work in it, in order of arrival."""
    inside = {call.features: call for call in probe.calls}
    rows = [
        (f"{number}.", call.sent, inside[features].entered, left)
        for number, (features, call) in enumerate(calls.items(), 1)
        if features in inside and (left := inside[features].left)
    ]
    return timeline(rows, title, note="the lab held each call in the model, and let them go one by one")


def without_a_queue(service: Start, rng: random.Random, show: Show, lines: Lines) -> None:
    """max_queue=0 means that no request waits; and Retry-After is never 0, however short the wait may be."""
    for seconds in (60, 0.25):
        probe = Probe()
        app = service(model=probe, max_in_flight=1, max_queue=0, queue_seconds=seconds)
        scene = Scene(app, probe, 1, 0, lines)
        calls = line_up(app, rng, 2)
        held, refused = calls.values()
        with scene.shown_if_it_fails(show), app.causes_first():
            app.go_on_until(lambda refused=refused: refused.done)  # type: ignore[misc]
            scene.step("2 arrived, with max_queue=0", calls, 1, 0)
            assert refused.done, Failure(
                "with max_queue=0 and a single slot, the second of two requests waits",
                "refused at once",
                "`max_queue` may be 0: compare with the number as it is.",
                lines.decides,
            )
            assert not held.done, Failure(
                "with max_queue=0 and a free slot, a request is refused",
                "it gets the slot",
                "Look for a free slot first, and for a place in the queue after that.",
                lines.decides,
            )
            says_when_to_come_again(refused.answer(), lines)
    _without_patience(service, rng, lines)


def _without_patience(service: Start, rng: random.Random, lines: Lines) -> None:
    """With `queue_seconds` 0 a refusal says 1 s at least. Whether the right one is refused is judged above."""
    app = service(model=Probe(), max_in_flight=1, max_queue=0, queue_seconds=0)
    calls = line_up(app, rng, 2)
    app.go_on_until(lambda: any(call.done for call in calls.values()))
    for answer in [call.answer() for call in calls.values() if call.done]:
        if answer.status_code == REFUSED:
            says_when_to_come_again(answer, lines)


def says_when_to_come_again(answer: httpx.Response, lines: Lines) -> None:
    """A refusal names the seconds after which another try makes sense."""
    after = answer.headers.get("retry-after", "")
    seconds = int(after) if after.isdecimal() else 0
    assert seconds >= 1, Failure(
        f"a refusal's Retry-After is {after!r}",
        "whole seconds, at least 1",
        '`(b"retry-after", str(max(1, math.ceil(self.queue_seconds))).encode())` among the headers of the refusal.',
        lines.retry_after,
    )


def what_is_not_http_passes(control: Callable[..., Any], lines: Lines) -> None:
    """An open WebSocket takes no slot, and cannot be answered with a 503."""
    reached = set[int]()

    def told(visitor: int, how: str, *_: object, **__: object) -> None:
        if how == "inside" and visitor in (0, 1):
            reached.add(visitor)

    limits = {"max_in_flight": 1, "max_queue": 0, "queue_seconds": 1.0}
    with visits(control, limits, told) as take:
        take([("connect", 0, ""), ("connect", 1, "")], 0.0)
    assert len(reached) == 2, Failure(
        f"with max_in_flight=1 {len(reached)} of 2 WebSockets reached the app",
        "a scope that is not HTTP passes",
        'Before anything else: `if scope["type"] != "http": return await self.app(scope, receive, send)`, in one line.',
        lines.call,
    )


def random_walk(lines: Lines, rng: random.Random, show: Show) -> int:
    """Take a thousand random steps with a bare AdmissionControl; fail at the first that goes wrong."""
    try:
        Walk(lines.control, rng.randint(2, 4), rng.randint(2, 5), rng).go(STEPS)
    except Stray as stray:
        show.table("the last steps", COLUMNS, stray.rows)
        if stray.__cause__ is not None:
            raise stray.__cause__ from None
        where = next((find(lines) for hint, find in WALK.items() if stray.failure.hint.startswith(hint)), lines.call)
        raise AssertionError(replace(stray.failure, where=where)) from None
    return STEPS
