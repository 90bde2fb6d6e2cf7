"""2.12: a service with three stages, what its answers say of them, and the bottleneck of their route."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from checks.harness.assertions.answers import calling
from checks.harness.assertions.metrics_page import metrics_of, series, table_of_stages
from checks.harness.assertions.server_timing import ROUNDING, durations
from checks.harness.cell.given_routes import Given
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import SECONDS as PROBE_SECONDS
from checks.harness.cell.probe import Call, Probe
from checks.harness.errors import Failure
from checks.harness.fixtures import Service
from checks.harness.load.trace import MS
from checks.harness.report.evidence import Show
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.windows import one_second

PATHS = ("/async", "/threaded")
REQUESTS = 20
OUTSIDE_HINT = (
    "Look for None first: outside of a request the ContextVar has its default, None, and no asyncio task runs. Then "
    "`stage` records nothing."
)
CONTEXT_HINT = (
    "A ContextVar holds what belongs to the current request, in its coroutines and on its threads. Put a list in it at "
    "the request's start, and let `stage` append to that list."
)
ADD_UP_HINT = "Add the seconds of a stage to those that its request has already: `total.get(name, 0.0) + seconds`."
FINALLY_HINT = "`try: yield`, and take the time in `finally`: the exception goes on, and the stage is still counted."
SHARE_HINT = "The share of a stage is its total time: mean times count."
AWAIT_HINT = "Put the `await` into the `with` block: a coroutine runs only when it is awaited."
MODEL_HINT = '`with stage("model"):` around the call of the model, in all three prediction routes.'


class Stage(Probe):
    """What a stage waits for: some requests longer than others."""

    def stay(self, call: Call) -> float:
        """Seconds, by the number of the request."""
        return self.seconds * (1 + call.features[0] % 5 / 4)

    def spent(self) -> dict[int, list[float]]:
        """The ms of each visit of each request, by its number."""
        found = defaultdict[int, list[float]](list)
        for call in self.calls:
            if call.left is not None:
                found[int(call.features[0])].append((call.left - call.entered) * MS)
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """Three stages, and by path the one that takes most of the time."""

    names: list[str]
    slow: dict[str, str]
    seconds: float

    def routes(self, path: str) -> Given:
        """The routes with these stages, where `path` is the one that is asked for."""
        gates = [Stage(held=False, seconds=self.seconds if name == self.slow[path] else 0.008) for name in self.names]
        return Given("staged", gates, {"names": self.names})


def planned(rng: random.Random) -> Plan:
    """Stages for `/async` in coroutines, and for `/threaded` on threads. Seconds are random."""
    names = rng.sample(["decode", "lookup", "embed", "rank", "render"], 3)
    return Plan(names, dict(zip(PATHS, rng.sample(names, 2), strict=True)), rng.uniform(0.04, 0.06))


def answers_have_their_own_stages(app: InProcess, path: str, routes: Given) -> None:
    """Of 20 requests at once, each answer's Server-Timing has the stages of its own request."""
    calls = [app.get(path) for _ in range(REQUESTS)]
    for call in calls:
        call.answer()
    spent = {name: gate.spent() for name, gate in zip(routes.plan["names"], routes.gates, strict=True)}
    for call in calls:
        _are_its_own(call, {name: visits.get(number_in(call), []) for name, visits in spent.items()})


def number_in(call: Pending) -> int:
    """The number of a request, which its handler has answered with."""
    said = call.answer().text
    return int(said) if said.isdecimal() else -1


def _are_its_own(call: Pending, spent: dict[str, list[float]]) -> None:
    """`spent` are the ms of its visits to each stage; the first stage is visited twice."""
    header = call.answer().headers.get("server-timing", "")
    said, names = durations(header), [*spent]
    missing = [name for name in names if name not in said]
    assert not missing, Failure(
        f"Server-Timing of a request with three stages is {header!r}",
        wanted=f"app;dur=..., and behind it {', '.join(f'{name};dur=...' for name in names)}",
        hint=CONTEXT_HINT,
    )
    assert all(spent.values()), Failure(
        f"a request that has three stages was answered with {call.answer().text[:40]!r}, before its stages had ended",
        wanted="the answer of the route, as it is",
    )
    assert call.finished is not None
    client = (call.finished - call.sent) * MS
    own = {name: sum(visits) for name, visits in spent.items()}
    said, rounding = _in_ms(said, own, client), ROUNDING if "." in header else 1.0  # 2.4 judges unit and decimals
    for name, took in own.items():
        twice = name == names[0] and said[name] >= spent[name][-1] - rounding
        assert said[name] >= took - rounding, Failure(
            f"one of {REQUESTS} concurrent requests says {said[name]:.1f} ms for its stage {name}, and it spent "
            f"{took:.1f} ms",
            wanted="all of its own time: do not mix the stages of different requests, and add up repeated stages",
            hint=ADD_UP_HINT if twice else CONTEXT_HINT,
        )
    total = sum(said[name] for name in names)
    assert total <= client + len(names) * rounding, Failure(
        f"the stages of one of {REQUESTS} concurrent requests add up to {total:.1f} ms, and its client waited "
        f"{client:.1f} ms",
        wanted="at most what the client waited: do not mix the stages of different requests",
        hint=CONTEXT_HINT,
    )


def _in_ms(said: dict[str, float], spent: dict[str, float], client: float) -> dict[str, float]:
    """The entries in ms, where all of them are right in seconds."""
    if all(ms - ROUNDING <= said[name] * MS <= client for name, ms in spent.items()):
        return {name: seconds * MS for name, seconds in said.items()}
    return said


def metrics_have_the_stages(app: InProcess, path: str, names: Sequence[str], show: Show) -> dict[str, Any]:
    """GET /metrics has each stage once for each request. Shows their shares, which add up. Returns the page."""
    page, route = metrics_of(app), f"GET {path}"
    found = series(page, route)
    stages = found["stages"]
    counts = {name: stages[name]["count"] if name in stages else 0 for name in names}
    assert counts == dict.fromkeys(names, REQUESTS), Failure(
        f"GET /metrics counts {counts} stages of {route}",
        wanted=f"{REQUESTS} of each, one for each request",
        hint="Add up what a request spent in a stage, and record the sum once, at its end.",
    )
    whole = found["avg_ms"] or 1
    means = {name: stages[name]["avg_ms"] for name in names}
    means["in no stage"] = max(0.0, whole - sum(means.values()))
    rows = [(name, f"{ms:.1f}", f"{ms / whole:.0%}") for name, ms in means.items()]
    show.table(f"{route}, {REQUESTS} at once", ("stage", "mean ms", "share"), [*rows, ("all", f"{whole:.1f}", "100%")])
    return page


def bottleneck_is_named(page: dict[str, Any], path: str, lab: LearnerModules, workspace: Workspace, show: Show) -> str:
    """`bottleneck` names a stage with the largest share of the route's time. Returns its name."""
    route = next(name for name in page["routes"] if series(page, f"GET {path}") is page["routes"][name])
    stages = page["routes"][route]["stages"]
    show.at(workspace.where_defined(lab.timing.bottleneck))
    with calling(f"bottleneck(page, {route!r})", workspace):
        found = lab.timing.bottleneck(page, route)
    shares = {name: stage["avg_ms"] * stage["count"] for name, stage in stages.items()}
    largest = max(shares.values())  # which stage that is was planned, but a busy machine may have made it another
    assert shares.get(found, 0) >= 0.99 * largest, Failure(
        f"the bottleneck of {route} is {found!r}",
        wanted=f"{max(shares, key=lambda name: shares[name])!r}, with the largest share",
        hint=SHARE_HINT,
    )
    return str(found)


def largest_share_wins(
    bottleneck: Callable[[Any, str], Any], names: Sequence[str], rng: random.Random, show: Show
) -> None:
    """Of three stages, one with the largest maximum, one with the largest mean, the one with the largest share."""
    largest_max, largest_share, largest_mean = rng.sample([*names], 3)
    scale = rng.uniform(0.5, 5)
    times = {largest_max: (5, 10, 900, 150), largest_share: (1, 30, 45, 100), largest_mean: (190, 200, 210, 3)}
    stages = {name: (*(scale * ms for ms in figures[:3]), figures[3]) for name, figures in times.items()}
    found = bottleneck(table_of_stages(stages, "GET /x"), "GET /x")  # type: ignore[arg-type]
    if found != largest_share:
        rows = [(name, f"{mean:.0f}", f"{most:.0f}", count) for name, (_, mean, most, count) in stages.items()]
        show.table("and of these?", ("stage", "mean ms", "max ms", "count"), rows)
    assert found == largest_share, Failure(
        f"of these three stages the bottleneck is {found!r}",
        wanted=f"{largest_share!r}: the largest total time, not the largest maximum or mean",
        hint=SHARE_HINT,
    )
    found = bottleneck(table_of_stages({}, "GET /x"), "GET /x")
    assert found is None, Failure(
        f"the bottleneck of a route without stages is {found!r}",
        wanted="None",
        hint="`max(stages, key=..., default=None)`: without stages there is none.",
    )


def a_stage_that_raises_counts(app: InProcess) -> None:
    """A stage that ended in an exception is among its route's, with its time."""
    stages = series(metrics_of(app), "GET /refused")["stages"]
    assert "refusal" in stages, Failure(
        f"a stage that ended in an exception is not among the stages of its route, {list(stages)}",
        wanted="a failed stage is counted, too, with its time",
        hint=FINALLY_HINT,
    )


def prediction_routes_time_the_model(service: Service, lab: LearnerModules, workspace: Workspace, show: Show) -> None:
    """Each of the three prediction routes has a stage `model` that holds the model's time."""
    for path in ("/predict", "/predict/threaded", "/predict/blocking"):
        app = service(model=Probe(held=False))  # of its own: what a series is called, 2.8 judges
        if app.post(path, {"features": [1.0]}).answer().status_code != 200:  # exercise 1 judges that
            continue
        show.at(workspace.where_defined(app.endpoint))
        stages = series(metrics_of(app), f"POST {path}")["stages"]
        assert "model" in stages, Failure(
            f"POST {path} has the stages {list(stages)}", wanted="its stage `model`", hint=MODEL_HINT
        )
        least = PROBE_SECONDS * one_second(lab) * 0.8
        assert stages["model"]["max_ms"] >= least, Failure(
            f"the stage `model` of POST {path} has {stages['model']['max_ms']:.3g} ms, the model took {least:.3g}",
            wanted="the model's time",
            hint=AWAIT_HINT,
        )
