"""How the runs of Locust are judged: 3.1 to 3.5 and 3.9, and what mends a locustfile."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from checks.harness.assertions.answers import short
from checks.harness.errors import Failure, Inconclusive, LearnerError, Needs
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.locate import LOCUSTFILE, where_key, where_limit, where_part
from checks.harness.loadtest.recording import Plan, Plateau, Recording, Sent
from checks.harness.loadtest.targets import Arrival
from checks.harness.machine import load_in_words
from checks.harness.workspace import Workspace
from checks.support.ex3 import plans
from checks.support.ex3.plans import GOOD, LATE, NEARLY, REFUSED, SOME, WRONG
from checks.support.ex3.tables import StepLike

STALLED = 0.1
"""If Locust or its target stood still for more than this part of a plateau, the plateau is not judged."""

NEAR = 0.2
"""Locust rounds what it reports to two digits, and a machine adds its own: so near to a limit nothing is judged."""

DEFAULTS = {"LOAD_PACE_SECONDS": 1.0, "LOAD_SLO_MS": 300, "LOAD_STEPS": 5, "LOAD_STEP_USERS": 4, "LOAD_STEP_SECONDS": 5}
"""What the stub's constants are without the environment."""


def too_busy(what: str) -> Inconclusive:
    """The verdict where a machine, and not the learner's code, explains what was seen."""
    return Inconclusive(f"this machine is too busy ({load_in_words()}): {what}")


def must_have_asked(run: Recording) -> None:
    """Go on only where the service was sent valid requests. What keeps a task from that is 3.1's subject."""
    run.require("task")
    problems = [a.problem for a in run.arrivals if a.problem] or [r.said for r in run.requests if r.failed]
    if problems and not any(arrival.answer for arrival in run.arrivals):
        raise LearnerError(f"no valid request reached the service: {max(problems)}", wanted="what 3.1 asks for")


def require_varied(arrivals: Sequence[Arrival]) -> None:
    """The requests ask different questions, with different right answers."""
    bodies = {arrival.body for arrival in arrivals}
    assert len(bodies) > len(arrivals) / 2, Failure(
        f"{len(arrivals)} requests asked {len(bodies)} different question{'s' * (len(bodies) != 1)}",
        "each its own: a cache, in the service or on the way, would answer all others",
        "Make the features inside the task, anew for each request: `[random.uniform(-100, 100) for _ in range(5)]`.",
    )
    means = {round(fmean(json.loads(arrival.body)["features"]), 9) for arrival in arrivals}
    assert len(means) > len(arrivals) / 2, Failure(
        f"{len(arrivals)} requests have {len(means)} different right answer{'s' * (len(means) != 1)}",
        "means that differ: a service that always gives the same answer would pass",
        "Random features have random means: compare each answer with the mean of what this request sent.",
    )


def require_all_counted(run: Recording, hint: str) -> None:
    """Every request that arrived is one that Locust counted."""
    arrived, sent = len(run.arrivals), len(run.requests)
    in_flight = run.plan.users * run.plan.steps  # so many may be cut off at the end
    if arrived != sent and abs(arrived - sent) <= in_flight and run.starved:
        raise too_busy(f"{arrived} requests arrived, Locust counted {sent} before its end")
    fault = run.fault("task")
    seen = f"{arrived} requests arrived at the service, Locust counted {sent} of them"
    raised = f", and your code raised {fault.words}" if fault else ""
    assert arrived == sent, Failure(seen + raised, "each is counted, once", hint, fault.where if fault else None)


def ms(seconds: float) -> str:
    """Seconds in words, as milliseconds."""
    return f"{seconds * 1000:.0f} ms"


# 3.2


def counts(run: Recording) -> tuple[Counter[str], Counter[str], list[Sent]]:
    """How many bad answers of each kind were counted as failures, how many as good, and good ones that were failed.

    An answer that came near the deadline is in none of them.
    """
    kinds = {arrival.number: arrival.answer.kind for arrival in run.arrivals if arrival.answer}
    counted: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    innocent = []
    for request in run.requests:  # one whose answer was not waited for has no number, and must have failed
        kind = kinds.get(request.number, LATE)
        part = request.latency_ms / run.plan.deadline_ms
        if kind != GOOD or part > 1 + NEAR:
            kind = LATE if kind == GOOD else kind
            counted[kind] += request.failed
            missed[kind] += not request.failed
        elif request.failed and part < 1 - NEAR:
            innocent.append(request)
    return counted, missed, innocent


def good_as_good(run: Recording) -> int:
    """How many good answers were counted as good."""
    kinds = {arrival.number: arrival.answer.kind for arrival in run.arrivals if arrival.answer}
    return sum(kinds.get(request.number) == GOOD and not request.failed for request in run.requests)


DID = {REFUSED: "were refusals", WRONG: "had a wrong mean", NEARLY: "had a mean that is 0.1 % off", LATE: "were late"}
"""What bad answers of each kind did, in words."""


def missed_failure(kind: str, missed: int, of: int, run: Recording, workspace: Workspace) -> Failure:
    """Bad answers of one kind that were counted as good."""
    file = workspace.tree / LOCUSTFILE
    caught = workspace.where_written(file, "catch_response=True")
    compared = [workspace.where_written(file, text) for text in ("isclose(", "abs(") if kind == NEARLY]
    compared += [where_key(workspace, "prediction")] if kind == NEARLY else []
    compared += [where_part(workspace, "DEADLINE_MS")] if kind == LATE else []
    fault = run.fault("task")
    raised = f", and your code raised {fault.words}" if fault else ""
    deadline = run.plan.deadline_ms
    no_effect = "" if caught else " It has no effect without `catch_response=True` in the call of `self.client.post`."
    why, hint = {
        REFUSED: (
            "a refusal is no prediction, however fast it came",
            f"`response.failure(...)` for every status but 200.{no_effect}",
        ),
        WRONG: (
            "status 200 does not say that the answer is right",
            "`response.failure(...)` unless `math.isclose(prediction, mean, rel_tol=1e-6, abs_tol=1e-6)`, with the "
            f"mean of what this request sent.{no_effect}",
        ),
        NEARLY: (
            "floating point differs in the last of 16 digits, not in the third",
            "The tolerance is too large: `math.isclose(prediction, mean, rel_tol=1e-6, abs_tol=1e-6)`.",
        ),
        LATE: (
            f"LOAD_DEADLINE_MS={deadline:g} was over",
            "Measure each request for itself, with a local variable. `response.request_meta['response_time']` and "
            "`DEADLINE_MS` are in ms, `time.perf_counter()` is in seconds.",
        ),
    }[kind]
    counted = "All were" if missed == of else f"{missed} of them were"
    seen = f"{of} answers {DID[kind]}. {counted} counted as good{raised}"
    return Failure(
        seen, f"each is a failure: {why}", hint, fault.where if fault else next(filter(None, compared), None)
    )


def innocent_failure(innocent: Sequence[Sent], run: Recording, workspace: Workspace) -> Failure:
    """Good answers that were counted as failures."""
    first = innocent[0]
    seen = f"{len(innocent)} good answers were counted as failures ({first.said})"
    if all(request.latency_ms > run.plan.deadline_ms / 3 for request in innocent):
        wanted = (
            f"an answer that came after {first.latency_ms:.0f} ms is in time: LOAD_DEADLINE_MS={run.plan.deadline_ms:g}"
        )
        where = where_part(workspace, "DEADLINE_MS")
        return Failure(seen, wanted, "Compare what one request took with `DEADLINE_MS`: both in ms.", where)
    features = next(arrival.body for arrival in run.arrivals if arrival.number == first.number)
    shown = short(json.loads(features)["features"])
    wanted = f"the answer may differ from the mean of [{shown}] in its last digits: counted as good"
    hint = "Compare with `math.isclose(prediction, mean, rel_tol=1e-6, abs_tol=1e-6)`."
    return Failure(seen, wanted, hint, where_key(workspace, "prediction"))


# 3.3


def _fixed(name: str) -> str:
    """What mends a value that stays the default, whatever the environment says."""
    return (
        f"The value is the default of `{name}`. Use `{name}` itself, and let it read LOAD_{name} from the environment."
    )


def pace_hint(gap: float, seconds: float, pace: float) -> tuple[str, str]:
    """What mends a gap between two requests of a user, in the median, and the part of the locustfile that it is in."""
    if abs(gap - pace) <= NEAR * pace:
        return (
            "The pace holds in the median only: does each wait have a random part, or the usual time of an answer? "
            "`wait_time = constant_pacing(PACE_SECONDS)` in the class takes off what this answer took."
        ), "wait_time"
    if abs(gap - pace - seconds) < NEAR * pace / 2:
        return (
            "The wait comes on top of the answer's time: it is a think time. In the class, "
            "`wait_time = constant_pacing(PACE_SECONDS)` takes the answer's time off."
        ), "wait_time"
    if abs(gap - DEFAULTS["LOAD_PACE_SECONDS"]) < 0.1:
        return _fixed("PACE_SECONDS"), "PACE_SECONDS"
    return (
        "The wait is the pace less the time since this user's own last start. A start time on the class or in a global "
        "is the last start of any user: keep it on `self`, or write `wait_time = constant_pacing(PACE_SECONDS)` in the "
        "class."
    ), "wait_time"


def excuses(run: Recording, gap: float) -> bool:
    """Whether a busy machine explains that a user's requests came at this distance, in seconds."""
    pace = run.plan.pace_seconds
    miss = abs(gap - pace)
    return miss > NEAR * pace and (run.may_be_late_by(miss) or (run.starved and miss < 2 * NEAR * pace))


def require_some_requests(run: Recording, users: int) -> None:
    """The users sent more than two requests each, so that a pace can be seen; raises in any case where they did not."""
    seen = f"{users} users sent {len(run.arrivals)} requests in {run.plan.seconds:g} s"
    assert run.starved or len(run.arrivals) > 2 * users, Failure(
        seen, f"each of them one every {ms(run.plan.pace_seconds)}", "Locust waits for seconds: no need to convert."
    )
    raise too_busy(f"{seen}: too few to see a pace")


# 3.4


def planned_users(plan: Plan, seconds: float) -> int | None:
    """How many users the plan has at a time; None after its end."""
    step = int(max(seconds, 0) // plan.step_seconds) + 1
    return step * plan.users if step <= plan.steps else None


def planned_between(plan: Plan, earliest: float, latest: float) -> set[int | None]:
    """What a shape may answer when its clock reads something between two times: two answers where a step ends."""
    return {planned_users(plan, at) for at in (earliest, latest)}


def shape_hint(run: Recording) -> tuple[str, str]:
    """What mends the answers of a shape, and the part of the locustfile that it is about."""
    plan = run.plan
    answers = [(tick.earliest, tick.answer and tick.answer[0]) for tick in run.ticks]
    fixed = {
        "STEPS": replace(plan, steps=int(DEFAULTS["LOAD_STEPS"])),
        "STEP_USERS": replace(plan, users=int(DEFAULTS["LOAD_STEP_USERS"])),
        "STEP_SECONDS": replace(plan, step_seconds=DEFAULTS["LOAD_STEP_SECONDS"]),
    }
    for name, other in fixed.items():
        if all(users in planned_between(other, at - 0.1, at + 0.1) for at, users in answers):
            return _fixed(name), name
    for tenths in range(1, 100):
        early = tenths / 10
        if all(users in planned_between(plan, at + early - 0.1, at + early + 0.1) for at, users in answers):
            return (
                f"The steps begin about {early:g} s early. Count from the start of the test, "
                "`self.get_run_time()`: the file is imported, and the shape is made, before that. And round down, "
                "`//`: `round` begins a step half of its time early."
            ), "tick"
    return (
        "`step = int(self.get_run_time() // STEP_SECONDS) + 1`. Return `(step * STEP_USERS, step * STEP_USERS)`, and "
        "`None` when `step > STEPS`."
    ), "tick"


def in_words(users: int | None) -> str:
    """What a shape answers, in words."""
    return "the end (None)" if users is None else f"{users} users"


# 3.5


def gate(run: Recording, slo_ms: float | None = None, failures: float = 0.01) -> int:
    """The exit code that a run's requests deserve."""
    slo = run.plan.slo_ms if slo_ms is None else slo_ms
    return int(not run.requests or run.p95_ms > slo or run.failure_ratio > failures)


def _by(rule: Callable[[Recording], bool]) -> Callable[[Recording], int]:
    return lambda run: int(rule(run))


def _latency(q: float) -> Callable[[Recording], float]:
    return lambda run: percentile([r.latency_ms for r in run.requests], q) if run.requests else 0.0


OWN_CODE = (
    "Locust itself set the exit code to 1. It does that at any failure, if the gate sets no exit code. Set "
    "`environment.process_exit_code` in every case: 0 as well, where at most 1 % failed and the p95 is within the SLO."
)

GATES: tuple[tuple[Callable[[Recording], int], str, str], ...] = (
    (
        _by(lambda run: bool(run.failed)),
        "These are Locust's own exit codes: set `environment.process_exit_code` in a listener of `events.quitting`. "
        "After that event they are decided.",
        "gate",
    ),
    (
        _by(lambda run: bool(run.failed) or bool(gate(run))),
        "This gate fails a run for a single failure. Locust's own exit code does that, if the gate does not set "
        "`environment.process_exit_code` to 0. A limit that is too low does it, too: `fail_ratio` goes from 0.0 to "
        "1.0, and 1 % is 0.01.",
        "fail_ratio",
    ),
    (
        lambda run: 0 if run.plan.workers else gate(run),
        "The master must set the exit code, like a single process. Only a worker returns early: "
        "`if isinstance(environment.runner, WorkerRunner): return`.",
        "gate",
    ),
    (lambda run: gate(run, DEFAULTS["LOAD_SLO_MS"]), _fixed("SLO_MS"), "SLO_MS"),
    (
        _by(lambda run: not run.requests or run.mean_ms > run.plan.slo_ms or run.failure_ratio > 0.01),
        "The gate uses the mean, or another percentile: "
        "`environment.stats.total.get_response_time_percentile(0.95)` is the p95.",
        "gate",
    ),
    (
        _by(lambda run: not run.requests or _latency(99)(run) > run.plan.slo_ms or run.failure_ratio > 0.01),
        "The gate uses the p99 or the maximum: "
        "`environment.stats.total.get_response_time_percentile(0.95)` is the p95: it takes a number from 0.0 to 1.0.",
        "gate",
    ),
    (
        _by(lambda run: not run.requests or run.p95_ms > run.plan.slo_ms),
        "Also set 1 when `environment.stats.total.fail_ratio > 0.01`. `fail_ratio` goes from 0.0 to 1.0.",
        "fail_ratio",
    ),
    (
        _by(lambda run: bool(run.requests) and bool(gate(run))),
        "`environment.stats.total.num_requests == 0` fails the run, too.",
        "gate",
    ),
    (_by(lambda run: not gate(run)), "The two exit codes are swapped: 1 fails a run, and 0 lets it pass.", "gate"),
    (
        lambda _: 1,
        "The exit code was 1 in each run. Set it to a number, 0 or 1, in a listener of `events.quitting`: the run's "
        "numbers are complete there.",
        "gate",
    ),
    (
        lambda _: 0,
        "The exit code was 0 in each run. Set `environment.process_exit_code = 1` where the run must fail.",
        "gate",
    ),
)
"""Gates that people write: their exit codes, what mends them, and where."""

WINDOW = "get_current_response_time_percentile"
WINDOW_HINT = (
    f"`{WINDOW}` is the percentile of the last seconds alone: "
    "`environment.stats.total.get_response_time_percentile(0.95)` is the p95 of the whole run."
)
WORKER_HINT = (
    "A worker has sent its numbers to the master, and has none left: "
    "`if isinstance(environment.runner, WorkerRunner): return`, from `locust.runners`."
)


def gate_hint(runs: Sequence[Recording]) -> tuple[str, str]:
    """What mends the exit codes of these runs, and the part of the locustfile that it is about."""
    codes = [run.exit_code for run in runs]
    found = [(hint, part) for rule, hint, part in GATES if [rule(run) for run in runs] == codes][:2]
    by_locust = [run for run in runs if not gate(run) and run.exit_code == 1 and run.failed and not run.decided[0]]
    if not found and by_locust:
        found = [(OWN_CODE, "gate")]
    parts = {part for _, part in found}
    return " Or: ".join(hint for hint, _ in found), parts.pop() if len(parts) == 1 else "gate"


LIMIT_HINT = "The limit of the failures is too high: `fail_ratio` goes from 0.0 to 1.0, and 1 % is 0.01."


def gate_mended(runs: Sequence[Recording], workspace: Workspace) -> tuple[str, str | None]:
    """What mends the exit codes of these runs, and the line."""
    if windowed := workspace.where_written(workspace.tree / LOCUSTFILE, WINDOW):
        return WINDOW_HINT, windowed
    hint, part = gate_hint(runs)
    if part != "fail_ratio":
        return hint, where_part(workspace, part)
    limit = where_limit(workspace, "fail_ratio", 0.01) or where_limit(workspace, "num_failures", 0.01)
    if limit and hint.startswith("Also set 1"):
        hint = LIMIT_HINT
    return hint, limit or where_part(workspace, "gate")


def near_the_slo(run: Recording) -> bool:
    """Whether Locust's own, rounded p95 may lie on the other side of the SLO: a rank beside, or 20 % away."""
    latencies = sorted(request.latency_ms for request in run.requests)
    rank = math.ceil(0.95 * len(latencies))
    beside = latencies[max(rank - 2, 0) : rank + 1]
    above = {latency > run.plan.slo_ms for latency in beside}
    return len(above) > 1 or any(abs(latency / run.plan.slo_ms - 1) < NEAR for latency in beside)


def require_idle_workers(run: Recording) -> None:
    """The workers of a distributed run decide nothing: their exit codes are 0. One that was killed is not judged."""
    for code, decided in zip(run.exit_codes[1:], run.decided[1:], strict=True):
        if code and run.starved and not decided:
            raise too_busy(f"a worker of Locust ended with exit code {code}")
        assert not code, Failure(
            f"{run.plan.what}: the exit code of the worker was {code}",
            "0: only the master sets the exit code, and its code was right",
            WORKER_HINT,
        )


def tells_gates_apart(run: Recording) -> bool:
    """Whether the run has the numbers for which it was planned: on a busy machine a wrong gate may fit them as well."""
    refused = [
        arrival for arrival in run.arrivals if arrival.finished and arrival.answer and arrival.answer.status != 200
    ]
    match run.plan.what:
        case plans.FEW:
            return bool(refused)
        case plans.SOME:
            return len(refused) > 0.01 * len(run.requests)
        case plans.SLOW:
            return max(_latency(90)(run), run.mean_ms) <= run.plan.slo_ms
        case _:
            return True


def require_planned_exit(run: Recording, code: int) -> None:
    """The numbers of a run, of which its exit code was right, are those that were planned."""
    if run.exit_code != gate(run) or not tells_gates_apart(run):
        raise too_busy(f"against {run.plan.what} {run.failure_ratio:.1%} failed, the p95 was {run.p95_ms:.0f} ms")
    if gate(run) == code or run.plan.what == SOME:  # failures that are not counted are 3.2's subject
        return
    seen = f"against {run.plan.what} {run.failure_ratio:.1%} failed, and the p95 was {run.p95_ms:.0f} ms"
    if innocent := counts(run)[2]:
        raise Needs("3.2", f"{len(innocent)} good answers were counted as failures ({innocent[0].said})")
    assert run.failure_ratio <= 0.1, Failure(f"{seen}: no numbers to try a gate on", "what 3.1 asks for")
    raise too_busy(seen)


# 3.9


def all_are_in_flight(run: Recording, plateaus: Iterable[Plateau]) -> None:
    """In a closed loop Little's law finds every user in a request; most of them have to be."""
    for plateau in plateaus:
        busy = plateau.requests_per_second * plateau.mean_ms / 1000
        if busy >= 0.7 * plateau.users:
            continue
        idle = plateau.mean_ms / 1000 * (plateau.users / max(busy, 0.1) - 1)
        if run.starved or run.may_be_late_by(idle) or run.stalled(plateau.span) > STALLED:
            raise too_busy(f"Locust woke {ms(run.lateness)} late, and computing took {run.stretch:.1f} times as long")
        seen = (
            f"of {plateau.users} users {busy:.1f} were in flight ({plateau.requests_per_second:.1f} requests/s x "
            f"{plateau.mean_ms:.0f} ms)"
        )
        wanted = "all of them: with LOAD_PACE_SECONDS=0 a user sends again as soon as the answer is there"
        hint = "A user who is not in flight waits for something else: a pace that is not 0, or a sleep in the task."
        raise AssertionError(Failure(seen, wanted, hint))


def require_the_break(run: Recording, plateaus: Sequence[Plateau], got: StepLike | None, true: int) -> None:
    """The breaking point that was found is the one that Little's law gives, within one step."""
    step, slo = run.plan.users, run.plan.slo_ms
    good = [p.users for p in plateaus if p.p95_ms <= slo and p.failure_ratio <= 0.01]
    by_the_lab = min((p.users for p in plateaus if p.users > max(good, default=0)), default=math.inf)
    if abs(by_the_lab - true) > step:
        raise too_busy(f"the lab's own analysis found {by_the_lab} users, not {true}")
    off = abs(got.users - true) if got else math.inf
    assert off <= step, Failure(
        f"a service that breaks at {true} users was found to break at {got.users if got else 'no'} users",
        f"{true} users, give or take one step: users x service time / slots is above the SLO from there on",
        "The SLO and the steps come with the call: no number of users or requests/s is fixed.",
    )
