"""The load tests of exercise 3. A plan is the same for all checkpoints of a run: they share one run of Locust."""

from __future__ import annotations

import math
import random

from checks.harness.loadtest.recording import Plan
from checks.harness.loadtest.targets import Answer, Service

HEALTHY, SLOW, FEW, SOME = "a healthy service", "6 to 9 % slow answers", "0.5 % failures", "2 % failures"
SILENT = "no answer at all"
GOOD, REFUSED, WRONG, NEARLY, LATE = "right", "a refusal", "a wrong mean", "a mean that is 0.1 % off", "late"


def healthy(seed: int) -> Plan:
    """All is well. Every second connection gets its answers slowly, but before its next request is due.

    With this pace the users of one step and those of the next do not send at the same time: users who share a start
    time then disturb each other. The pause shows steps that are counted from the import.
    """
    draw = random.Random(f"{seed} healthy")
    pace = round(draw.uniform(0.352, 0.375), 3)
    service = Service((Answer(0.05 * pace), Answer(0.75 * pace)), by_connection=True)
    return Plan(HEALTHY, service, 3, 3, pace_seconds=pace, slo_ms=2000, deadline_ms=10000, pause_seconds=1.2)


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
    """Fast in the mean and for most, and above the SLO for the others, but below the default SLO of 300 ms.

    One answer of 11 is slow in the first second, one of 30 in the two that follow: 6 to 9 % of all, however many there
    are. So the p95 of the run is above the SLO, and that of its last seconds is not.
    """
    draw = random.Random(f"{seed} slow")
    slo = draw.randint(90, 105)
    fast, slow = Answer(slo / 10000), Answer(2.2 * slo / 1000)
    first, later = [*[fast] * 10, slow] * 14, [*[fast] * 29, slow] * 9
    return Plan(SLOW, Service((*first, *later)), 6, step_seconds=3.0, pace_seconds=0.05, slo_ms=slo)


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


FOR_THE_GATE = (healthy, slow_for_some, few_failures, some_failures, silent, distributed)
"""What the gate of 3.5 judges: the exit codes are 0, 1, 0, 1, 1, 1."""
