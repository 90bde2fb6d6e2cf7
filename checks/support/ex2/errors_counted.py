"""2.6: answers of every class, crashes and cancelled requests, and what GET /metrics makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from checks.harness.assertions.metrics_page import metrics_of, statuses, total_count
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure, LearnerError
from checks.harness.judge.handles import beside
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.middleware import (
    BASE_HINT,
    TWICE_HINT,
    crashed,
    on_base_http,
    where_classes_are_made,
    where_metrics_begin,
)

CLASS_HINT = 'The class is the status divided by 100: `f"{status // 100}xx"`.'
EVERY_STATUS_HINT = "Record every answer, whatever its status: 404, 422 and 503 are answers, too."
CRASH_HINT = "`except Exception:` record a 500, then `raise` without anything behind it."
RAISE_HINT = "`raise` without anything behind it, at the end of the `except`."
BROKEN_OFF_HINT = "Count an exception before the last body message as a 500, even if another status was sent already."
ONCE_HINT = (
    "Record a request once: remember in a local variable that its last body message has passed. Raise a later "
    "exception again, and record nothing for it."
)
LOCAL_HINT = (
    "Keep status, scope and stages in local variables of `__call__`: all requests share an attribute of the middleware."
)
MACHINES_HINT = "A path in NOT_COUNTED is not in flight either: check the path before `in_flight` goes up."
GAUGE_HINT = (
    "One up when a request comes, one down when it ends, in a `finally`: `+= 1` and `-= 1`, once for each request."
)
CANCEL_HINT = (
    "A cancelled request raises CancelledError. `except Exception` does not catch it, but `finally` always runs: count "
    "down there."
)
NO_ANSWER_HINT = "CancelledError is no Exception: `except Exception` does not catch it, `except BaseException` does."


@dataclass(frozen=True, slots=True)
class Gauge:
    """in_flight as GET /metrics shows it; `too_many` are in it all the time, and another checkpoint judges that."""

    app: InProcess
    too_many: int

    def read(self) -> int:
        """How many requests are in flight."""
        return int(metrics_of(self.app)["in_flight"]) - self.too_many

    def shows(self, wanted: int, when: str, hint: str) -> None:
        """So many requests are in flight."""
        in_flight = self.read()
        assert in_flight == wanted, Failure(f"in_flight is {in_flight} while {when}", wanted=f"{wanted}", hint=hint)


def counts_nothing_of_others(app: InProcess, lab: LearnerModules, workspace: Workspace) -> None:
    """A new app has counted no request yet, although another one in this process has."""
    counted = total_count(metrics_of(app))
    assert not counted, Failure(
        f"GET /metrics of a new app counts {counted} request{'s' * (counted != 1)}, before its first request: "
        "another app of this process got them",
        wanted="each app counts its own",
        hint="Create what a Metrics collects in `__init__`, as attributes of `self`. All apps share what is on the "
        "class or on the module.",
        where=where_metrics_begin(lab, workspace),
    )


def lifespan_in_flight(lab: LearnerModules) -> int:
    """How many requests a lifespan counts for, while it runs: none, if it passes untouched."""
    with suppress(Exception):  # 2.7 judges that
        middleware = lab.timing.TimingMiddleware
        return int(beside(middleware).lifespan_in_flight(middleware, lab.timing.Metrics(10)))
    return 0


@contextmanager
def counted_as(
    app: InProcess, what: str, wanted: dict[str, int], hint: str, where: str | None = None, twice_at: str | None = None
) -> Iterator[None]:
    """The requests that are sent in here are counted in these classes, each once, with one latency each.

    `where` is the line to change if they are not, `twice_at` the one if all are counted several times.
    """
    before = metrics_of(app)
    yield
    after = metrics_of(app)
    counted = {name: count for name, count in (statuses(after) - statuses(before)).items() if count}
    latencies = total_count(after) - total_count(before)
    times = sum(counted.values()) // sum(wanted.values())
    if twice_at and times > 1 and counted == {name: times * count for name, count in wanted.items()}:
        hint, where = TWICE_HINT, twice_at
    shown = dict(sorted(counted.items()))
    assert counted == wanted, Failure(
        f"{what} counted as {shown or 'nothing'}", wanted=str(wanted), hint=hint, where=where
    )
    assert latencies == sum(wanted.values()), Failure(
        f"{what} counted with {latencies} latencies", wanted=f"{sum(wanted.values())}: one latency for each request"
    )


def answers_of_every_class(app: InProcess, rng: random.Random, lab: LearnerModules, workspace: Workspace) -> int:
    """Answers from 200 to 503, counted by class. Returns how many."""
    works, typed, nowhere = (rng.randint(2, 6) for _ in range(3))
    paths = ["/works"] * works + ["/typed/x"] * typed + ["/nowhere"] * nowhere + ["/moved", "/busy"]
    what = f"{works} answers 200, one 307, {typed} 422, {nowhere} 404 and one 503 were"
    wanted = {"2xx": works, "3xx": 1, "4xx": typed + nowhere, "5xx": 1}
    where = next(filter(None, (where_classes_are_made(lab, workspace, s) for s in (200, 307, 404, 422, 503))), None)
    twice_at = workspace.where_defined(lab.service.create_app)
    with counted_as(app, what, wanted, CLASS_HINT if where else EVERY_STATUS_HINT, where, twice_at):
        for path in rng.sample(paths, len(paths)):
            app.get(path).answer()
    return len(paths)


def crashes(app: InProcess, rng: random.Random) -> int:
    """Handlers that raise: their exceptions come out, and each counts as 5xx. Returns how many."""
    count = rng.randint(2, 5)
    with counted_as(app, f"{count} crashes were", {"5xx": count}, CRASH_HINT):
        for _ in range(count):
            assert crashed(app.get("/crash")), Failure(
                "a handler raised an exception, and the middleware did not raise it again",
                wanted="the exception passes through: the server logs it, and the caller gets a 500",
                hint=RAISE_HINT,
            )
    return count


def crash_within_the_answer(app: InProcess, lab: LearnerModules) -> None:
    """An answer that breaks off after its first piece is a 5xx."""
    hint = BASE_HINT if on_base_http(lab) else BROKEN_OFF_HINT
    with counted_as(app, "an answer 200 that broke off with a crash was", {"5xx": 1}, hint):
        crashed(app.get("/crash/within"))


def crash_after_the_answer(app: InProcess) -> None:
    """A background task that raises after the last byte changes nothing but that its exception travels on."""
    what = "an answer 200 whose background task raised after the last byte was"
    with counted_as(app, what, {"2xx": 1}, ONCE_HINT):
        assert crashed(app.drive("GET", "/crash/after", until_it_returns=True)), Failure(
            "a background task raised an exception, and the middleware did not raise it again",
            wanted="the exception passes through, so that the server can log it",
            hint=RAISE_HINT,
        )


def streams_overlap(app: InProcess, streams: Probe, gauge: Gauge) -> bool:
    """Two streams at the same time, with a status each. Returns whether both were counted at their end."""
    with counted_as(app, "two streams at the same time, one 200 and one 503, were", {"2xx": 1, "5xx": 1}, LOCAL_HINT):
        before = total_count(metrics_of(app))
        calls = [app.drive("GET", path) for path in ("/stream/200", "/stream/503")]
        app.until(lambda: streams.inside == len(calls))
        early, in_flight = total_count(metrics_of(app)) - before, gauge.read()
        assert early or in_flight == len(calls), Failure(
            f"in_flight is {in_flight} while {len(calls)} answers have begun and not ended",
            wanted=f"{len(calls)}: a request is in flight until its last byte",
            hint="Take a request out of `in_flight` with its last body message, not at the response's start.",
        )
        streams.open()
        for call in calls:
            call.answer()
    return not early


def _has_left(gate: Probe, inside: int, call: Pending) -> bool:
    return gate.inside == inside and call.swallowed is not None


def the_gauge_in_between(app: InProcess, gate: Probe, gauge: Gauge) -> None:
    """in_flight while three requests are held: whatever else ends, and after each that is cancelled or answered."""
    held = [app.get("/held") for _ in range(3)]
    app.until(lambda: gate.inside == len(held))
    if gate.inside < len(held) and not any(call.done for call in held):
        raise LearnerError(
            f"{gate.inside} of {len(held)} requests have reached their handler: the others wait for that one",
            app.where_waiting(),
            wanted="all of them, side by side",
            hint="A middleware must let all requests run at the same time: no lock around `await self.app(...)`.",
        )
    gauge.shows(len(held), f"{len(held)} requests wait inside", GAUGE_HINT)
    for path in ("/works", "/nowhere", "/crash"):
        call = app.get(path)
        crashed(call) if path == "/crash" else call.answer()
        gauge.shows(len(held), f"{len(held)} requests wait inside, after another one to {path} has ended", GAUGE_HINT)
    with counted_as(app, "2 cancelled requests and 1 answered were", {"2xx": 1}, NO_ANSWER_HINT):
        for number, call in enumerate(held[:2], 1):
            call.cancel()
            app.until(partial(_has_left, gate, 3 - number, call))
            assert not call.swallowed, Failure(
                "a request was cancelled, and the middleware did not raise the CancelledError again",
                wanted="the middleware raises CancelledError again, like every exception",
                hint="`except Exception` does not catch CancelledError; where you catch it, end with `raise`.",
            )
            in_flight = gauge.read()
            still = 3 - number
            assert in_flight == still, Failure(
                f"in_flight is {in_flight} after {number} of 3 requests {'was' if number == 1 else 'were'} cancelled",
                wanted=f"{still}",
                hint=CANCEL_HINT if in_flight > still else GAUGE_HINT,
            )
        gate.open()
        held[2].answer()
    gauge.shows(0, "all requests are over, 2 of 3 cancelled and 1 answered", GAUGE_HINT)
