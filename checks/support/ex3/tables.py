"""How the analysis of load tests is judged: 3.6 to 3.8, and what mends lab/breaking_point.py."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from checks.harness.errors import Failure

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
    """Numbers of steps, and by which part of their users each is off: some just below and above 15 %, on both sides.

    Exactly 15 % is not tried: `1 - 17 / 20 <= 0.15` is false in floating point, and a right answer all the same.
    """
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
        "You compare with 15 % of throughput x time. Compare with 15 % of `step.users`.",
    ),
    (
        lambda s: math.isclose(s.requests_per_second * max(s.pace_seconds, s.mean_ms / 1000), s.users, rel_tol=0.15),
        "`math.isclose` compares with 15 % of the larger number. Compare with 15 % of `step.users`.",
    ),
    (
        lambda s: (
            max(f := s.requests_per_second * max(s.pace_seconds, s.mean_ms / 1000), s.users) <= 1.15 * min(f, s.users)
        ),
        "You compare with 15 % of the smaller number. Compare with 15 % of `step.users`.",
    ),
    (
        lambda s: abs(_off(s, max(s.pace_seconds, s.mean_ms / 1000))) <= 15,
        "You compare with a fixed number of users. Compare with 15 % of `step.users`.",
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


def tables_with_traps(rng: random.Random, step: Callable[..., StepLike]) -> list[tuple[str, list[StepLike], float]]:
    """Load tests with traps: a name, the steps, and an SLO in ms."""
    fixed = [  # g is a good step, e just good enough, s too slow, f one with failures
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
    tables = []
    for name, pattern in rng.sample(fixed, len(fixed)) + [("random steps", pattern) for pattern in chances]:
        slo = rng.uniform(20, 900)
        users = sorted(rng.sample(range(1, 300), len(pattern)))
        steps = [step(count, **measured(rng, state, slo)) for count, state in zip(users, pattern, strict=True)]
        tables.append((name, steps, slo))
    return tables


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


Good = Callable[[StepLike, float], bool]
Steps = Sequence[StepLike]


def is_good(step: StepLike, slo: float) -> bool:
    """Whether a step kept the SLO, with at most 1 % failures."""
    return step.p95_ms <= slo and step.failure_ratio <= 0.01


def break_of(steps: Steps, slo: float, good: Good = is_good) -> StepLike | None:
    """The first step from which on none is good."""
    broken = None
    for step in reversed(steps):
        if good(step, slo):
            break
        broken = step
    return broken


def _first_bad(steps: Steps, slo: float) -> StepLike | None:
    return next((step for step in steps if not is_good(step, slo)), None)


def _last_good(steps: Steps, slo: float) -> StepLike | None:
    found = [step for step in steps if is_good(step, slo)]
    broken = break_of(steps, slo)
    return found[-1] if found and broken else broken


def _last_row(steps: Steps, slo: float) -> StepLike | None:
    return steps[-1] if break_of(steps, slo) else None


def _fastest(steps: Steps, _: float) -> StepLike | None:
    return max(steps, key=lambda step: step.requests_per_second, default=None)


def _by_good(good: Good) -> Callable[[Steps, float], StepLike | None]:
    return lambda steps, slo: break_of(steps, slo, good)


BREAKS: tuple[tuple[Callable[[Steps, float], StepLike | None], str], ...] = (
    (_fastest, "The highest throughput is no promise: look at p95 and failures, and not at throughput."),
    (
        _first_bad,
        "A bad step that a good one follows is a spike. Go through the steps from the last one backwards, for as long "
        "as they are bad.",
    ),
    (_last_good, "The break is the first bad step after the last good one, not the last good one."),
    (_last_row, "The break is the first of the bad steps at the end, not the last."),
    (_by_good(lambda s, _: is_good(s, 300)), "The SLO comes with the call: `slo_ms`."),
    (_by_good(lambda s, slo: s.p95_ms <= slo), "A step with more than 1 % failures is bad, however fast it was."),
    (_by_good(lambda s, _: s.failure_ratio <= 0.01), "A step with a p95 above the SLO is bad, though nothing failed."),
    (_by_good(lambda s, slo: s.p95_ms < slo and s.failure_ratio <= 0.01), "A p95 of exactly the SLO is good: `<=`."),
    (_by_good(lambda s, slo: s.p95_ms <= slo and s.failure_ratio < 0.01), "Exactly 1 % failures is good: `<=`."),
    (_by_good(lambda s, slo: s.p95_ms < slo and s.failure_ratio < 0.01), "Exactly at both limits is good: `<=`."),
    (_by_good(lambda s, slo: s.mean_ms <= slo and s.failure_ratio <= 0.01), "The SLO is for `p95_ms`, not the mean."),
)
"""Breaking points that people compute, and what mends them."""


def break_hint(tables: Sequence[tuple[Steps, float]], found: Sequence[object]) -> str:
    """What mends a `find_breaking_point` that found these steps in these tables."""
    for rule, hint in BREAKS:
        if [rule(steps, slo) for steps, slo in tables] == list(found):
            return hint
    return "Good is p95 at most the SLO and at most 1 % failures: both. The break is the first bad step at the end."


def wrong_break(
    trap: str, steps: Steps, slo: float, got: StepLike | None, wanted: StepLike | None, hint: str
) -> Failure:
    """A breaking point that is none, or was not found, with the rule that was missed."""
    seen = f"{trap}: find_breaking_point found {f'{got.users} users' if got else 'none'}"
    if wanted is None:
        rule = f"the last step, {steps[-1].users} users, is {_state(steps[-1], slo)}" if steps else "there are no steps"
        return Failure(seen, f"none: {rule}", hint)
    after = next((step for step in steps if got and step.users > got.users and is_good(step, slo)), None)
    if after:
        rule = f"the step of {after.users} users is {_state(after, slo)}"
    elif got and is_good(got, slo):
        rule = f"the step of {got.users} users is {_state(got, slo)}"
    else:
        rule = f"this step is {_state(wanted, slo)}, and none after it is good"
    return Failure(seen, f"{wanted.users} users: {rule}", hint)


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
        f"{'`math.inf`' if math.isinf(got) else f'{got:.3f} s'}",
        f"{'`math.inf`' if math.isinf(right) else f'{right:.3f} s'}, in the order of the requests",
        latency_hint(requests, all_got),
    )
