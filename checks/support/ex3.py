"""Helpers of exercise 3: the load tests that its checkpoints run, and what explains a wrong answer."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Protocol

from checks.harness.errors import Failure, Inconclusive, LearnerError
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.recording import Plan, Plateau, Recording, Sent
from checks.harness.loadtest.targets import Answer, Arrival, Service
from checks.harness.machine import load_in_words

NEAR = 0.2
"""Locust rounds what it reports to two digits, and a machine adds its own: so near to a limit nothing is judged."""

DEFAULTS = {"LOAD_PACE_SECONDS": 1.0, "LOAD_SLO_MS": 300, "LOAD_STEPS": 5, "LOAD_STEP_USERS": 4, "LOAD_STEP_SECONDS": 5}
"""What the stub's constants are without the environment."""

# The load tests. A plan is the same for all checkpoints of a run, so that they share one run of Locust.

FEW, SOME, SILENT = "0.5 % failures", "2 % failures", "no answer at all"
GOOD, REFUSED, WRONG, NEARLY, LATE = "right", "a refusal", "a wrong mean", "a mean that is 0.1 % off", "late"


def healthy(seed: int) -> Plan:
    """All is well. Every second connection gets its answers slowly, but before its next request is due.

    The first answer to each connection takes longer than the pace. From then on no two users of a step send at the same
    time, so that users who share a start time disturb each other. Locust calls the shape just before a step begins.
    """
    draw = random.Random(f"{seed} healthy")
    pace = round(draw.uniform(0.3, 0.4), 3)
    first = tuple(Answer(part * pace) for part in (1.2, 1.5, 1.8))
    service = Service((Answer(0.05 * pace), Answer(0.75 * pace)), by_connection=True, first=first)
    step_seconds = round(draw.uniform(2.15, 2.25), 2)
    return Plan("a healthy service", service, 3, 3, step_seconds, pace, slo_ms=2000, deadline_ms=10000)


def faulty(seed: int) -> Plan:
    """One answer in five is bad: a refusal, another number, or later than the deadline. One is slow, and in time."""
    draw = random.Random(f"{seed} faulty")
    deadline = draw.randint(250, 400)
    refusals = [Answer(0.02, status, kind=REFUSED) for status in (503, 429)]
    wrong = [Answer(0.02, right=False, kind=WRONG), *[Answer(0.02, right=False, off=1e-3, kind=NEARLY)] * 2]
    slow = [Answer(0.6 * deadline / 1000), Answer(1.6 * deadline / 1000, kind=LATE)]
    service = Service((*[Answer(0.02)] * 24, *refusals, *wrong, *slow), seed=draw.randrange(10**6), exact=False)
    return Plan("bad answers", service, 8, step_seconds=3, slo_ms=2000, deadline_ms=deadline)


def slow_for_some(seed: int) -> Plan:
    """Fast in the mean and for 92 %, and above the SLO for the others, but below the default SLO of 300 ms."""
    draw = random.Random(f"{seed} slow")
    slo = draw.randint(90, 105)
    service = Service((*[Answer(slo / 10000)] * 12, Answer(2.2 * slo / 1000)), seed=draw.randrange(10**6))
    return Plan("8 % slow answers", service, 6, pace_seconds=0.05, slo_ms=slo)


def few_failures(seed: int) -> Plan:
    """One failure and a few slow answers in 200: within what was promised."""
    draw = random.Random(f"{seed} few")
    slo = draw.randint(400, 600)
    good, slow, refused = [Answer(0.005)] * 49, Answer(slo / 400), Answer(0.005, 503, kind=REFUSED)
    service = Service((*good, slow, *good, slow, refused, *good, slow, *good))  # the 101st, so that 1 % it is at most
    return Plan(FEW, service, 6, pace_seconds=0.03, slo_ms=slo)


def some_failures(seed: int) -> Plan:
    """One failure in 50: more than what was promised, and all else is well."""
    draw = random.Random(f"{seed} some")
    good, refused = Answer(0.005), Answer(0.005, 503, kind=REFUSED)
    return Plan(
        SOME, Service((*[good] * 19, refused, *[good] * 30)), 5, pace_seconds=0.03, slo_ms=draw.randint(400, 600)
    )


def silent(seed: int) -> Plan:  # noqa: ARG001 - the same for every seed
    """Nothing is ever answered."""
    return Plan(SILENT, Service((Answer(math.inf),)), 2, stop_seconds=1)


def distributed(seed: int) -> Plan:
    """Every answer is above the SLO, and a master and a worker of Locust share the work."""
    draw = random.Random(f"{seed} distributed")
    slo = draw.randint(100, 140)
    service = Service((Answer(2 * slo / 1000),))
    return Plan("slow answers, master and worker", service, 4, pace_seconds=0.05, slo_ms=slo, workers=1)


def unknown(seed: int, number: int) -> Plan:
    """Random slots and service time, and an SLO just below the latency that one of the steps will have.

    A step adds half as many users as there are slots, and the SLO breaks at an odd one: full waves of users are served
    in the time that Little's law gives, broken ones take up to a wave longer.
    """
    draw = random.Random(f"{seed} unknown {number}")
    slots, seconds, breaks_at = draw.choice([4, 6, 8]), round(draw.uniform(0.06, 0.1), 3), draw.choice([3, 5])
    slo = (breaks_at - 0.2) * seconds / 2 * 1000
    service = Service((Answer(seconds),), slots=slots)
    return Plan(f"unknown service {number}", service, slots // 2, steps=6, pace_seconds=0, slo_ms=slo)


def first_unknown(seed: int) -> Plan:
    """The first of two unknown services."""
    return unknown(seed, 1)


def second_unknown(seed: int) -> Plan:
    """The second of two unknown services."""
    return unknown(seed, 2)


# What the checkpoints have in common.


def too_busy(what: str) -> Inconclusive:
    """The verdict where a machine, and not the learner's code, explains what was seen."""
    return Inconclusive(f"this machine is too busy ({load_in_words()}): {what}")


def must_have_asked(run: Recording) -> None:
    """Go on only where the service was sent valid requests. What keeps a task from that is 3.1's subject."""
    run.require("task")
    problems = [a.problem for a in run.arrivals if a.problem] or [r.said for r in run.requests if r.failed]
    if problems:
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


def missed_failure(kind: str, missed: int, of: int, run: Recording) -> Failure:
    """Bad answers of one kind that were counted as good."""
    fault = run.fault("task")
    raised = f", and your code raised {fault.words}" if fault else ""
    deadline = run.plan.deadline_ms
    why, hint = {
        REFUSED: (
            "a refusal is no prediction, however fast it came",
            "`response.failure(...)` for every status but 200. Without `catch_response=True` it has no effect.",
        ),
        WRONG: (
            "status 200 does not say that the answer is right",
            "`math.isclose(prediction, mean, rel_tol=1e-6, abs_tol=1e-6)`, with the mean of what this request sent. "
            "Without `catch_response=True` `response.failure(...)` has no effect.",
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
    seen = f"{missed} of {of} answers that were {kind} were counted as good{raised}"
    return Failure(seen, f"each is a failure: {why}", hint, fault.where if fault else None)


def innocent_failure(innocent: Sequence[Sent], run: Recording) -> Failure:
    """Good answers that were counted as failures."""
    first = innocent[0]
    seen = f"{len(innocent)} good answers were counted as failures ({first.said})"
    if all(request.latency_ms > run.plan.deadline_ms / 3 for request in innocent):
        wanted = (
            f"an answer that came after {first.latency_ms:.0f} ms is in time: LOAD_DEADLINE_MS={run.plan.deadline_ms:g}"
        )
        return Failure(seen, wanted, "Compare what one request took with `DEADLINE_MS`: both in ms.")
    features = next(arrival.body for arrival in run.arrivals if arrival.number == first.number)
    shown = str(json.loads(features)["features"])
    wanted = f"the mean of {shown[:40]}{'...' * (len(shown) > 40)} may differ in its last digits"
    return Failure(seen, wanted, "`math.isclose(prediction, mean, rel_tol=1e-6, abs_tol=1e-6)`")


# 3.3


def pace_hint(gap: float, seconds: float, pace: float) -> tuple[str, str]:
    """What mends a gap between two requests of a user, and the part of the locustfile that it is about."""
    if abs(gap - pace - seconds) < NEAR * pace / 2:
        return (
            "That is the pace on top of the answer's time, a think time. `constant_pacing(PACE_SECONDS)(self)` takes "
            "the answer's time off."
        ), "wait_time"
    if abs(gap - DEFAULTS["LOAD_PACE_SECONDS"]) < 0.1:
        return "That is the default: the environment's LOAD_PACE_SECONDS comes first.", "PACE_SECONDS"
    return (
        "The wait is the pace less the time since this user's own last start. A start time on the class or in a global "
        "is the last start of any user: keep it on `self`, or use `constant_pacing(PACE_SECONDS)(self)`."
    ), "wait_time"


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
            return f"`{name}` is the default: the environment's LOAD_{name} comes first.", name
    for tenths in range(1, 100):
        if all(users == planned_users(plan, at + tenths / 10) for at, users in answers):
            return (
                f"The steps begin about {tenths / 10:g} s early. Count from the start of the test, "
                "`self.get_run_time()`: the file is imported before that."
            ), "tick"
    return (
        "`step = int(self.get_run_time() // STEP_SECONDS) + 1`, with `step * STEP_USERS` users; after step `STEPS` "
        "`None`."
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


GATES: tuple[tuple[Callable[[Recording], int], str, str], ...] = (
    (
        _by(lambda run: bool(run.failed)),
        "These are Locust's own exit codes: set `environment.process_exit_code`.",
        "gate",
    ),
    (
        _by(lambda run: bool(run.failed) or bool(gate(run))),
        "Locust's own exit code is 1 at any failure: set `environment.process_exit_code` to 0 as well.",
        "gate",
    ),
    (lambda run: gate(run, DEFAULTS["LOAD_SLO_MS"]), "`SLO_MS` is the default: LOAD_SLO_MS comes first.", "SLO_MS"),
    (
        _by(lambda run: not run.requests or run.mean_ms > run.plan.slo_ms or run.failure_ratio > 0.01),
        "That is the mean: `environment.stats.total.get_response_time_percentile(0.95)` is the p95.",
        "gate",
    ),
    (
        _by(lambda run: not run.requests or _latency(90)(run) > run.plan.slo_ms or run.failure_ratio > 0.01),
        "That is another percentile: `environment.stats.total.get_response_time_percentile(0.95)` is the p95.",
        "gate",
    ),
    (
        _by(lambda run: not run.requests or _latency(99)(run) > run.plan.slo_ms or run.failure_ratio > 0.01),
        "That is p99 or the maximum: `environment.stats.total.get_response_time_percentile(0.95)` is the p95.",
        "gate",
    ),
    (
        _by(lambda run: not run.requests or run.p95_ms > run.plan.slo_ms),
        "`environment.stats.total.fail_ratio` is a part of 1: more than 0.01 is more than 1 %.",
        "gate",
    ),
    (
        _by(lambda run: bool(run.requests) and bool(gate(run))),
        "`environment.stats.total.num_requests == 0` fails the run, too.",
        "gate",
    ),
    (lambda _: 0, "The exit code is 0 whatever happens: `environment.process_exit_code = 1`.", "gate"),
)
"""Gates that people write: their exit codes, what mends them, and where."""

WORKER_HINT = (
    "A worker has handed its numbers to the master, and finds none: "
    "`if isinstance(environment.runner, WorkerRunner): return`, from `locust.runners`."
)


def gate_hint(runs: Sequence[Recording]) -> tuple[str, str]:
    """What mends the exit codes of these runs, and the part of the locustfile that it is about."""
    codes = [run.exit_code for run in runs]
    for rule, hint, part in GATES:
        if [rule(run) for run in runs] == codes:
            return hint, part
    return "", "gate"


def near_the_slo(run: Recording) -> bool:
    """Whether Locust's own, rounded p95 may lie on the other side of the SLO: a rank beside, or 20 % away."""
    latencies = sorted(request.latency_ms for request in run.requests)
    rank = math.ceil(0.95 * len(latencies))
    beside = latencies[max(rank - 2, 0) : rank + 1]
    above = {latency > run.plan.slo_ms for latency in beside}
    return len(above) > 1 or any(abs(latency / run.plan.slo_ms - 1) < NEAR for latency in beside)


def require_idle_workers(run: Recording) -> None:
    """The workers of a distributed run decide nothing: their exit codes are 0. One that was killed is not judged."""
    failed = [code for code in run.exit_codes[1:] if code]
    if failed and run.starved:
        raise too_busy("a worker may have lost its master")
    assert not failed, Failure(
        f"{run.plan.what}: the exit code of the worker was {failed[0]}",
        "0: the master decides, and its exit code was right",
        WORKER_HINT,
    )


def require_planned_exit(run: Recording, code: int) -> None:
    """The numbers of a run, of which its exit code was right, are those that were planned."""
    if gate(run) == code or run.plan.what == SOME:  # failures that are not counted are 3.2's subject
        return
    seen = f"against {run.plan.what} {run.failure_ratio:.1%} failed, and the p95 was {run.p95_ms:.0f} ms"
    assert run.failure_ratio <= 0.1, Failure(f"{seen}: no numbers to try a gate on", "what 3.1 asks for")
    raise too_busy(seen)


# 3.6


class StepLike(Protocol):
    """A step as `lab.records` has it."""

    users: int
    requests_per_second: float
    mean_ms: float
    p95_ms: float
    failure_ratio: float
    pace_seconds: float


def steps_near_the_limit(rng: random.Random) -> list[tuple[dict[str, float], float]]:
    """Numbers of steps, and by which part of their users each is off: some just below and above 15 %, on both sides."""
    offs = [-0.14, 0.14, -0.16, 0.16, -0.5, 1.0, *(rng.uniform(-0.14, 0.14) for _ in range(6))]
    found = []
    for off in offs * 5:
        users, mean_ms = rng.randint(2, 200), rng.uniform(5, 900)
        pace = rng.choice([0.0, mean_ms / 1000 * rng.uniform(2, 20), mean_ms / 1000 * rng.uniform(0.1, 0.5)])
        rate = users * (1 + off) / max(pace, mean_ms / 1000)
        p95_ms, failed = mean_ms * rng.uniform(1.5, 4), rng.choice([0.0, 0.5])
        step = {"users": users, "requests_per_second": rate, "mean_ms": mean_ms, "p95_ms": p95_ms}
        found.append((step | {"failure_ratio": failed, "pace_seconds": pace}, off))
    rng.shuffle(found)
    return found


def _off(step: StepLike, cycle: float) -> float:
    return step.requests_per_second * cycle - step.users


LAWS: tuple[tuple[Callable[[StepLike], bool], str], ...] = (
    (
        lambda s: abs(_off(s, max(s.pace_seconds, s.mean_ms))) <= 0.15 * s.users,
        "`mean_ms` is in milliseconds: `step.mean_ms / 1000`.",
    ),
    (
        lambda s: abs(_off(s, max(s.pace_seconds, s.p95_ms / 1000))) <= 0.15 * s.users,
        "Little's law holds for the mean, not for the p95.",
    ),
    (
        lambda s: abs(_off(s, s.mean_ms / 1000)) <= 0.15 * s.users,
        "The pace is missing: a user sends again after `pace_seconds`, or after the answer, whichever is later.",
    ),
    (
        lambda s: abs(_off(s, s.pace_seconds or s.mean_ms / 1000)) <= 0.15 * s.users,
        "An answer can take longer than the pace: a user sends again after whichever is later.",
    ),
    (
        lambda s: abs(_off(s, s.pace_seconds + s.mean_ms / 1000)) <= 0.15 * s.users,
        "Pace and latency overlap: a user sends again after whichever is later, not after both.",
    ),
    (
        lambda s: _off(s, max(s.pace_seconds, s.mean_ms / 1000)) >= -0.15 * s.users,
        "Too many is wrong, too: take the distance, `abs(...)`.",
    ),
    (
        lambda s: _off(s, max(s.pace_seconds, s.mean_ms / 1000)) <= 0.15 * s.users,
        "Too few is wrong, too: take the distance, `abs(...)`.",
    ),
    (
        lambda s: abs(_off(s, c := max(s.pace_seconds, s.mean_ms / 1000))) <= 0.15 * s.requests_per_second * c,
        "That is 15 % of throughput x time: 15 % of `step.users` is meant.",
    ),
    (
        lambda s: math.isclose(s.requests_per_second * max(s.pace_seconds, s.mean_ms / 1000), s.users, rel_tol=0.15),
        "`math.isclose` takes 15 % of the larger number: 15 % of `step.users` is meant.",
    ),
)
"""Ways to judge a step that people write, and what mends them."""


def law_hint(steps: Sequence[StepLike], judged: Sequence[object]) -> str:
    """What mends a `trustworthy` that judged these steps so."""
    for rule, hint in LAWS:
        if [rule(step) for step in steps] == list(judged):
            return hint
    return "At most 15 % of `step.users` away is trusted, on either side."


def step_in_words(step: StepLike) -> str:
    """A step in words."""
    return (
        f"{step.users} users, {step.requests_per_second:.1f} requests/s, mean {step.mean_ms:.0f} ms, "
        f"p95 {step.p95_ms:.0f} ms, pace {step.pace_seconds:.3g} s"
    )


# 3.7


def load_tests_with_traps(rng: random.Random) -> list[tuple[str, str]]:
    """Names and patterns of load tests: g is a good step, e just good enough, s too slow, f one with failures."""
    fixed = [
        ("a lone spike", "gsgggss"),
        ("two spikes", "gsgfggs"),
        ("failures without slowness", "ggggff"),
        ("never breaks, its throughput up and down", "gggggg"),
        ("just good enough at the end", "gggse"),
        ("never breaks, a spike just before the end", "ggggsg"),
        ("broken at the first step", "sssss"),
        ("broken at the last step only", "gggggs"),
        ("one step, good", "g"),
        ("one step, bad", "s"),
        ("no steps", ""),
    ]
    chances = ["".join(rng.choices("gesf", k=rng.randint(1, 9))) for _ in range(40)]
    return rng.sample(fixed, len(fixed)) + [("random steps", pattern) for pattern in chances]


def measured(rng: random.Random, state: str, slo: float) -> dict[str, float]:
    """What was measured at a step of a pattern. Some are just above the limits; throughput has no meaning in it."""
    slow, failing = rng.choice([1.01, rng.uniform(1.1, 3)]), rng.choice([0.011, rng.uniform(0.02, 0.5)])
    p95 = {"s": slo * slow, "e": slo}.get(state, slo * rng.uniform(0.1, 0.95))
    failed = {"f": failing, "e": 0.01}.get(state, rng.uniform(0, 0.009))
    throughput, mean = rng.uniform(10, 500), p95 * rng.uniform(0.2, 0.6)
    return {"requests_per_second": throughput, "mean_ms": mean, "p95_ms": p95, "failure_ratio": failed}


def row(step: StepLike) -> tuple[object, ...]:
    """A step as a row of a table."""
    rate, mean, p95 = (f"{number:.0f}" for number in (step.requests_per_second, step.mean_ms, step.p95_ms))
    return step.users, rate, mean, p95, f"{step.failure_ratio:.1%}"


def _state(step: StepLike, slo: float) -> str:
    """Why a step is good, or not."""
    if step.p95_ms > slo:
        return f"bad: p95 {step.p95_ms:.1f} ms is above the SLO of {slo:.1f} ms"
    if step.failure_ratio > 0.01:
        return f"bad: {step.failure_ratio:.1%} failed, more than 1 %"
    return f"good: p95 {step.p95_ms:.1f} ms, SLO {slo:.1f} ms, {step.failure_ratio:.1%} failed"


def wrong_break(
    trap: str, steps: Sequence[StepLike], slo: float, got: StepLike | None, wanted: StepLike | None
) -> Failure:
    """A breaking point that is none, or is not found, with the rule that was missed."""
    seen = f"{trap}: find_breaking_point found {f'{got.users} users' if got else 'none'}"
    last = steps[-1] if steps else None
    if wanted is None:
        rule = f"the last step, {last.users} users, is {_state(last, slo)}" if last else "there are no steps"
        return Failure(seen, f"none: {rule}", "A bad step that a good one follows is a spike, not the break.")
    words = f"{wanted.users} users"
    later = [step for step in steps if got is not None and step.users > got.users]
    good = next((step for step in later if _state(step, slo).startswith("good")), None)
    if got is not None and good is not None:
        after = f"{words}: after {got.users} users the step of {good.users} is {_state(good, slo)}"
        return Failure(seen, after, "Go through the steps from the last one backwards, for as long as they are bad.")
    if got is not None and got.users < wanted.users:
        return Failure(
            seen,
            f"{words}: {got.users} users is {_state(got, slo)}",
            "The break is the first bad step, not the last good.",
        )
    hint = "Good is p95 at most the SLO and at most 1 % failures: both."
    if got is not None:
        hint = "The break is the first of the bad steps at the end, not the last or the fastest."
    return Failure(seen, f"{words}: this step is {_state(wanted, slo)}, and none after it is good", hint)


# 3.8


class RequestLike(Protocol):
    """A request as `lab.records` has it."""

    scheduled: float
    sent: float
    finished: float | None


def made_up_requests(rng: random.Random, request: Callable[..., RequestLike]) -> list[RequestLike]:
    """Requests in random order: sent on time and late, answered and never answered."""
    late = [(t, t + rng.uniform(0.1, 1), rng.choice([None, t + rng.uniform(1, 2)])) for t in range(10)]
    on_time = [(t, float(t), rng.choice([None, t + rng.uniform(1, 2)])) for t in range(10, 18)]
    both = [(20.0, 20.0, None), (21.0, 21.0, 21.5), (22.0, 22.5, None), (23.0, 23.5, 24.0)]
    return [request(*times) for times in rng.sample([*late, *on_time, *both], 22)]


def latencies_of(requests: Iterable[RequestLike], since: str) -> list[float]:
    """Seconds of each request from one of its times to its end; infinite without an end."""
    return [math.inf if r.finished is None else r.finished - getattr(r, since) for r in requests]


def latency_hint(requests: Sequence[RequestLike], got: Sequence[float]) -> str:
    """What mends latencies that are wrong for these requests."""
    if all(map(math.isclose, got, latencies_of(requests, "sent"))):
        return "Count from when the request was due (`scheduled`), not from when it could be sent."
    if sorted(got) == sorted(latencies_of(requests, "scheduled")):
        return "Keep the order of the requests."
    return "`request.finished - request.scheduled`, or `math.inf` where `finished` is None."


def wrong_latency(
    one: RequestLike, got: float, right: float, requests: Sequence[RequestLike], all_got: Sequence[float]
) -> Failure:
    """A latency that is not the one from when the request was due."""
    began = min(request.scheduled for request in requests)
    end = "never answered" if one.finished is None else f"answered at {one.finished - began:.3f} s"
    return Failure(
        f"due at {one.scheduled - began:.3f} s, sent at {one.sent - began:.3f} s, {end}: corrected_latencies says "
        f"{got:.3f} s",
        f"{right:.3f} s, in the order of the requests",
        latency_hint(requests, all_got),
    )


# 3.9


def all_are_in_flight(run: Recording, plateaus: Iterable[Plateau]) -> None:
    """In a closed loop Little's law finds every user in a request; most of them have to be."""
    for plateau in plateaus:
        busy = plateau.requests_per_second * plateau.mean_ms / 1000
        if busy >= 0.7 * plateau.users:
            continue
        idle = plateau.mean_ms / 1000 * (plateau.users / max(busy, 0.1) - 1)
        if run.may_be_late_by(idle):
            raise too_busy(f"Locust woke {ms(run.lateness)} late")
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
    by_the_lab = next((p.users for p in plateaus if p.users > max(good, default=0)), math.inf)
    if abs(by_the_lab - true) > step:
        raise too_busy(f"the lab's own analysis found {by_the_lab} users, not {true}")
    off = abs(got.users - true) if got else math.inf
    assert off <= step, Failure(
        f"a service that breaks at {true} users was found to break at {got.users if got else 'no'} users",
        f"{true} users, give or take one step: users x service time / slots is above the SLO from there on",
        "The SLO and the steps come with the call: no number of users or requests/s is fixed.",
    )
