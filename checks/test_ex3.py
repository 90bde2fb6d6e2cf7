"""Exercise 3 - load testing, to the breaking point.

A load test is a measuring instrument: before it measures your service, it has to be right itself. Here Locust runs your
`loadtests/locustfile.py` against services whose every answer is known, and your `lab/breaking_point.py` has to find
where they break.
"""

import json
import math
import random
from collections import Counter
from statistics import fmean, median

import pytest

from checks.harness.assertions.answers import calling, is_number
from checks.harness.errors import Inconclusive
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.locate import where_part
from checks.harness.loadtest.recording import Plan, hockey_stick
from checks.harness.loadtest.targets import Answer, Service

NEAR = 0.2
"""Locust rounds what it reports to two digits, and a machine adds its own: so near to a limit nothing is judged."""


@pytest.mark.checkpoint(
    "3.1",
    points=2,
    deadline=120,
    hints=(
        '`with self.client.post(PATH, json={"features": features}, catch_response=True) as response:`, with features '
        "made anew for each request. The client knows the host already: give it nothing but a path.",
        "Locust tells of a request when its `with` block ends. Without a `with` it tells of none.",
    ),
)
def test_locust_and_the_service_agree(load_test, workspace, seed, show):
    """Locust runs, and the service agrees.

    What a load test reports is believed for as long as nobody counts on the other side. Requests that were refused for
    their body, went to another host or asked one cached question over and over give beautiful numbers, too.
    """
    [run] = load_test(healthy(seed))
    show.at(where_part(workspace, "task"))
    run.require("task")
    sent, arrived = run.requests, run.arrivals
    said = f": {sent[0].said}" if sent and sent[0].said else ""
    assert arrived, (
        f"Locust tells of {len(sent)} requests, and none arrived at the service{said}\n"
        f"wanted: they go to the host that `--host` names\ntry: Give the client a path only, no `http://` and no host."
    )
    problems = [arrival.problem for arrival in arrived if arrival.problem]
    assert not problems, (
        f"{len(problems)} of {len(arrived)} requests asked for no prediction: {problems[0]}\n"
        'wanted: each is a `POST` to /predict with a JSON body {"features": [1.0, ...]}'
    )
    different = len({arrival.body for arrival in arrived})
    assert different > len(arrived) / 2, (
        f"{len(arrived)} requests asked {different} different question{'s' * (different != 1)}\n"
        "wanted: each its own: a cache, in the service or on the way, would answer all others"
    )
    rows = Counter((request.method, request.name) for request in sent)
    names = ", ".join(" ".join(row) for row, _ in rows.most_common(3))
    assert len(rows) <= 1, (
        f"Locust reports {len(rows)} rows: {names}...\nwanted: one row: a percentile needs many requests under one name"
    )
    assert len(sent) == len(arrived), (
        f"{len(arrived)} requests arrived, Locust tells of {len(sent)}\n"
        "wanted: every one is counted, once\n"
        "try: With `catch_response=True` a request counts when its `with` block ends."
    )
    assert not run.failed, (
        f"{len(run.failed)} of {len(sent)} good answers were counted as failures: {run.failed[0].said}\nwanted: none"
    )
    show.at(where_part(workspace, "gate"))
    if run.p95_ms > (1 - NEAR) * run.plan.slo_ms:
        raise Inconclusive(f"this machine is too busy: the p95 was {run.p95_ms:.0f} ms where an answer takes few")
    assert run.exit_code == 0 or run.fault("listener"), (
        f"the exit code was {run.exit_code}, though nothing failed and the p95 was {run.p95_ms:.0f} ms\n"
        f"wanted: 0, with an SLO of {run.plan.slo_ms:.0f} ms"
    )
    show.number(f"{len(sent)} sent, {len(arrived)} arrived", len(sent))


@pytest.mark.checkpoint(
    "3.2",
    points=3,
    deadline=120,
    hints=(
        "Inside the `with` block: `response.failure(...)` for a status that is not 200, for a prediction that is not "
        "the mean of what you sent, and for an answer that took longer than `DEADLINE_MS`.",
        "How long it took: `time.perf_counter()` before and after, or `response.request_meta['response_time']` in ms. "
        "What the answer says: `response.json()`, which raises where there is no JSON.",
        "`math.isclose` compares floating point as it must be compared: another order of additions gives other digits.",
    ),
)
def test_failures_are_counted(load_test, workspace, seed, show):
    """Bad answers are failures, good ones not.

    A service in trouble is often fast: an error page takes no time, and an empty result is a 200. A load test that
    looks at the status alone reports its best throughput when everything is broken. And an answer after its deadline
    is one that nobody waits for any more.
    """
    [run] = load_test(faulty(seed))
    show.at(where_part(workspace, "task"))
    deadline = run.plan.deadline_ms
    kinds = {arrival.number: arrival.answer.kind for arrival in run.arrivals if arrival.answer}
    dealt = Counter(kinds.values())
    if len(dealt) < 4:
        must_have_asked(run)
        raise Inconclusive(f"only {len(run.arrivals)} requests were sent in {run.plan.seconds:g} s: too few to judge")

    counted, missed, innocent = Counter(), Counter(), []
    for request in run.requests:  # one whose answer was not waited for has no number, and must have failed
        kind = kinds.get(request.number, LATE)
        late = request.latency_ms / deadline
        if kind != GOOD or late > 1 + NEAR:
            kind = LATE if kind == GOOD else kind
            counted[kind] += request.failed
            missed[kind] += not request.failed
        elif request.failed and late < 1 - NEAR:
            innocent.append(request)
    rows = [(kind, dealt[kind], counted[kind], missed[kind]) for kind in (REFUSED, WRONG, LATE)]
    show.table("what the service did", ("answers", "given", "counted as failures", "as good"), rows)
    fault = run.fault("task")
    show.at(fault and fault.where)
    raised = f", and your code raised {fault.words}" if fault else ""
    for kind in (REFUSED, WRONG, LATE):
        assert not missed[kind], (
            f"{missed[kind]} of {missed[kind] + counted[kind]} answers that were {kind} were counted as good{raised}\n"
            f"wanted: a failure each{EXPLAINED[kind].format(deadline=deadline)}\ntry: {TRY[kind]}"
        )
    unheard = len(run.arrivals) - len(run.requests)
    assert unheard <= 0, (
        f"{unheard} of {len(run.arrivals)} requests were not counted at all{raised}\n"
        "wanted: every request counts, and a bad answer is a failure, not an exception\n"
        "try: Look at the status first: what is no good answer may hold no JSON, and no prediction."
    )
    if innocent:
        answer = json.loads(run.arrivals[innocent[0].number].body)
        raise AssertionError(
            f"{len(innocent)} good answers were counted as failures ({innocent[0].said})\n"
            f"wanted: only bad ones. The mean of {str(answer)[:40]}... may differ in its last digits\n"
            "try: `math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)`"
        )
    show.number(f"{sum(counted.values())} of {len(run.requests)} failed", sum(counted.values()))


@pytest.mark.checkpoint(
    "3.3",
    points=2,
    deadline=120,
    hints=(
        "A fixed wait (`constant`, `between`) comes on top of the answer's time. `constant_pacing(PACE_SECONDS)` and "
        "`constant_throughput(1 / PACE_SECONDS)` take it into account (but divide by a pace of 0 with care).",
    ),
)
def test_users_keep_their_pace(load_test, workspace, seed, show):
    """Users keep their pace.

    Users do not wait longer between two requests because the service has become slow. A load test whose users do
    sends less just when it gets interesting, and finds the slow service in good health.
    """
    [run] = load_test(healthy(seed))
    show.at(where_part(workspace, "wait_time"))
    run.require("wait_time")
    pace, most = run.plan.pace_seconds, run.plan.users * run.plan.steps
    connections = {arrival.connection for arrival in run.arrivals}
    assert len(connections) <= 2 * most, (
        f"{most} users opened {len(connections)} connections\n"
        "wanted: one each, kept open: a new one for every request costs more than the request"
    )
    rows = []
    for place, answer in enumerate(run.plan.service.answers):
        gaps = run.gaps(number for number in connections if number % 2 == place)
        if not gaps:
            must_have_asked(run)
            assert run.starved or len(run.arrivals) > 2 * most, (
                f"{most} users sent {len(run.arrivals)} requests in {run.plan.seconds:g} s\n"
                f"wanted: each of them one every {ms(pace)}\ntry: Locust waits for seconds: no need to convert."
            )
            raise Inconclusive(f"{len(run.arrivals)} requests in {run.plan.seconds:g} s: too few to see a pace")
        rows.append((answer, median(gaps)))
    columns = ("an answer takes", "from request to request", "wanted")
    show.table("pace of a user", columns, [(ms(a.seconds), ms(gap), ms(pace)) for a, gap in rows])
    show.number("every " + " and ".join(ms(gap) for _, gap in rows), rows[-1][1])
    for answer, gap in rows:
        if abs(gap - pace) > NEAR * pace and run.starved:
            raise Inconclusive(f"this machine is too busy: Locust itself woke {run.late:.1f} s late")
        assert abs(gap - pace) <= NEAR * pace, (
            f"where an answer takes {ms(answer.seconds)}, a user sent a request every {ms(gap)}\n"
            f"wanted: every {ms(pace)}, as LOAD_PACE_SECONDS={pace:g} says, however long the answer takes"
        )


@pytest.mark.checkpoint(
    "3.4",
    points=2,
    deadline=120,
    hints=(
        "Which step is it at `self.get_run_time()`? One division, rounded down, plus 1. After step `STEPS`: `None`.",
        "The second number is how many users may come per second: as many as there are to be, or they trickle in.",
    ),
)
def test_the_load_climbs_in_plateaus(load_test, workspace, seed, show):
    """The load climbs in plateaus, and ends.

    A number belongs to a load only if the load stood still while it was taken: hence plateaus, and each as long as the
    others. Ramps mix what happened at many loads into one percentile that belongs to none.
    """
    [run] = load_test(healthy(seed))
    show.at(where_part(workspace, "tick"))
    plan = run.plan
    assert run.shape, "Locust found no shape in the locustfile\nwanted: `class StepLoad(LoadTestShape)`, not abstract"
    run.require("tick")
    show.table(
        "what the shape said",
        ("second", *(f"{tick.at:.1f}" for tick in run.ticks)),
        [("users", *("None" if tick.told is None else tick.told[0] for tick in run.ticks))],
    )
    for tick in run.ticks:
        # Locust asks when a step begins, give or take a little: then either answer is right.
        near = {planned_users(plan, tick.at + shift) for shift in (-0.1, 0.1)}
        told = tick.told and tick.told[0]
        assert told in near, (
            f"after {tick.at:.1f} s the shape wanted {users(told)}\n"
            f"wanted: {users(planned_users(plan, tick.at))}: {plan.steps} steps of {plan.users} users, "
            f"{plan.step_seconds:g} s each"
        )
    for tick in run.ticks:
        assert tick.told is None or tick.told[1] >= plan.users, (
            f"a step's {plan.users} users come at {tick.told[1]:g} per second: they trickle in\n"
            f"wanted: at once, at {plan.users} per second or more"
        )
    assert not run.overdue, f"{run.ticks[-1].at - plan.seconds:.0f} s after the last step it went on\nwanted: `None`"
    last = run.ticks[-1].at
    assert last > plan.seconds - 0.1, f"the run ended after {last:.1f} s\nwanted: after all steps, {plan.seconds:g} s"
    show.number(f"{plan.steps} steps of {plan.users} users", plan.steps)


@pytest.mark.checkpoint(
    "3.5",
    points=2,
    deadline=180,
    hints=(
        "`environment.stats.total` has `get_response_time_percentile(0.95)` in ms, `fail_ratio` and `num_requests`.",
        "Set `environment.process_exit_code` to 0 as well: where it is not set, Locust decides by rules of its own.",
    ),
)
def test_the_gate_decides(load_test, workspace, seed, show):
    """The exit code says whether the SLO held.

    In a pipeline nobody reads the report: the exit code decides what is delivered. A mean hides that one user in twenty
    waits; a gate that falls at a single failure is soon switched off; one that lets an unanswered run pass is
    no gate.
    """
    wanted = {healthy: 0, slow_for_some: 1, few_failures: 0, faulty: 1, silent: 1}
    runs = load_test(*(plan(seed) for plan in wanted))
    show.at(where_part(workspace, "gate"))
    rows = []
    for run, code in zip(runs, wanted.values(), strict=True):
        times = [f"{one:.0f}" for one in (mean_ms(run), p95_ms(run), run.plan.slo_ms)]
        rows.append((run.plan.what, *times, f"{failure_ratio(run):.1%}", run.exit_code, code))
    columns = ("against", "mean", "p95", "SLO", "failed", "exit", "wanted")
    show.table("exit codes (times in ms)", columns, rows)
    for run in runs:
        run.require("listener")
        locusts = all(one.exit_code == int(bool(one.failed)) for one in runs)
        hint = "\ntry: These are Locust's own exit codes: set `environment.process_exit_code`." if locusts else ""
        near = run.requests and abs(p95_ms(run) / run.plan.slo_ms - 1) < NEAR
        assert near or run.exit_code == gate(run), (
            f"{run.plan.what}: {len(run.requests)} requests, mean {mean_ms(run):.0f} ms, p95 {p95_ms(run):.0f} ms, "
            f"{failure_ratio(run):.1%} failed, and the exit code was {run.exit_code}\n"
            f"wanted: {gate(run)}, with an SLO of {run.plan.slo_ms:.0f} ms for the p95 and at most 1 % failures"
            f"{'' if run.requests else ': of a run without answers nobody knows whether it held'}{hint}"
        )
    for run, code in zip(runs, wanted.values(), strict=True):
        if gate(run) == code or run.plan.what == FAULTY:  # what of those is not counted is told by 3.2
            continue
        # It was right about these numbers, but they were to be others.
        seen = f"against {run.plan.what} {failure_ratio(run):.1%} failed, and the p95 was {p95_ms(run):.0f} ms"
        many = failure_ratio(run) > 0.1
        assert not many, f"{seen}: nothing to try a gate on\nwanted: what 3.1 asks for"
        raise Inconclusive(f"{seen}: this machine is too busy for that")
    show.number("exit codes " + " ".join(str(run.exit_code) for run in runs), len(runs))


@pytest.mark.checkpoint(
    "3.6",
    points=2,
    deadline=15,
    hints=(
        "In flight = requests/s x seconds. `mean_ms` is in milliseconds.",
        "Each user starts a request every `pace_seconds`, or when the answer is there, whichever is later.",
    ),
)
def test_littles_law(workspace, lab, rng, show):
    """Little's law checks the load test.

    Users, throughput and latency of a load test are not independent: any two give the third. Where they do not fit, the
    generator was too slow or the plateau was none, and the p95 beside them means nothing.
    """
    littles_law, trustworthy = lab.breaking_point.littles_law, lab.breaking_point.trustworthy
    show.at(workspace.where_defined(littles_law))
    for _ in range(20):
        rate, seconds = rng.uniform(1, 1000), rng.uniform(0.001, 2)
        got = littles_law(rate, seconds)
        assert is_number(got), f"littles_law({rate:.1f}, {seconds:.3f}) returned {got!r}\nwanted: a number"
        assert math.isclose(got, rate * seconds, rel_tol=1e-9), (
            f"{rate:.1f} requests/s that take {seconds:.3f} s each: littles_law says {got:.4g} are in flight\n"
            f"wanted: {rate * seconds:.4g}"
        )
    show.at(workspace.where_defined(trustworthy))
    for number in range(60):
        users, mean_ms = rng.randint(2, 200), rng.uniform(5, 900)
        pace = rng.choice([0.0, mean_ms / 1000 * rng.uniform(2, 20), mean_ms / 1000 * rng.uniform(0.1, 0.5)])
        off, honest = (rng.uniform(-0.1, 0.1), True) if number % 2 else (rng.choice([-0.5, -0.2, 0.2, 1.0]), False)
        rate = users * (1 + off) / max(pace, mean_ms / 1000)
        p95_ms, failed = mean_ms * rng.uniform(1.5, 4), rng.choice([0.0, 0.5])
        step = lab.records.Step(users, rate, mean_ms, p95_ms, failed, pace)
        got = trustworthy(step)
        assert got is honest, (
            f"{shown(step)}: trustworthy says {got!r}\n"
            f"wanted: {honest}: {rate:.1f} requests/s x {max(pace, mean_ms / 1000):.3f} s is {users * (1 + off):.1f} "
            f"of {users} users"
        )
    show.number("60 steps judged", 60)


@pytest.mark.checkpoint(
    "3.7",
    points=3,
    deadline=15,
    hints=(
        "Go through the steps from the last one backwards, for as long as they are bad.",
        "Good is p95 at most the SLO and at most 1 % failures: both. Throughput does not come into it.",
    ),
)
def test_the_breaking_point(workspace, lab, rng, show):
    """find_breaking_point finds the break.

    The breaking point is a number for capacity planning: from this load on, the promise is broken for good. A single
    bad step is a garbage collection or a neighbour. The highest throughput is no promise at all: it is often reached
    with everybody waiting.
    """
    find = lab.breaking_point.find_breaking_point
    show.at(workspace.where_defined(find))
    for trap, pattern in traps(rng):
        slo = rng.uniform(20, 900)
        users = sorted(rng.sample(range(1, 300), len(pattern)))
        steps = [
            lab.records.Step(count, **measured(rng, state, slo)) for count, state in zip(users, pattern, strict=True)
        ]
        broken = len(pattern) - len(pattern.rstrip("sf"))
        wanted = steps[-broken] if broken else None
        before = [*steps]
        got = find(steps, slo)
        assert got is None or got in before, f"find_breaking_point returned {got!r}\nwanted: one of the steps, or None"
        if got != wanted:
            show.table(
                f"{trap}, SLO {slo:.0f} ms", ("users", "requests/s", "mean ms", "p95 ms", "failed"), [*map(row, before)]
            )
        assert got == wanted, (
            f"{trap}: find_breaking_point found {found(got)}\n"
            f"wanted: {found(wanted)}, {'from which on none is good' if wanted else 'since the last step is good'}"
        )
        assert steps == before, "find_breaking_point changed the list it was given\nwanted: the list as it was"
    show.number("no trap caught it", 0)


@pytest.mark.checkpoint(
    "3.8",
    points=2,
    deadline=60,
    hints=(
        "A latency counts from when the request was due (`scheduled`), not from when it could be sent.",
        "A request that was never answered is no good one: longer than any (`math.inf`), and still in the list.",
    ),
)
def test_coordinated_omission(serve_target, workspace, lab, rng, show):
    """Corrected latencies show the stall.

    When a service stands still, a generator with a few connections stands still with it: it sends one request per
    connection into the stall, and the hundred that users would have sent meanwhile appear nowhere. Its p99 is then the
    p99 of the good seconds.
    """
    from checks.harness.load.generator import open_loop

    corrected, request = lab.breaking_point.corrected_latencies, lab.records.Request
    show.at(workspace.where_defined(corrected))
    start, stall = rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.7)
    service = serve_target(Service((Answer(0.004),), stall=(start, start + stall)))
    load = {"rate": 150, "seconds": 2, "seed": rng.randrange(10**6), "connections": 2}
    trace = open_loop(f"{service.url}/predict", body=b'{"features": [1.0, 2.0, 6.0]}', **load)
    real = [request(r.scheduled, r.sent, r.finished) for r in trace.requests if r.sent is not None]
    made = [request(t, t + rng.random(), rng.choice([None, t + rng.uniform(1, 2)])) for t in range(20)]
    for requests in (real, rng.sample(made, len(made)), []):
        wanted = [math.inf if r.finished is None else r.finished - r.scheduled for r in requests]
        naive = [math.inf if r.finished is None else r.finished - r.sent for r in requests]
        with calling("corrected_latencies, with requests of which some were never answered,", workspace):
            got = corrected(requests)
        assert isinstance(got, list), f"corrected_latencies returned {got!r}\nwanted: a list of seconds"
        assert len(got) == len(wanted), (
            f"{len(wanted)} requests gave {len(got)} latencies\n"
            "wanted: one for each: a request without an answer took for ever (`math.inf`)"
        )
        if requests is real:
            p99 = {name: percentile(of, 99) for name, of in (("sent", naive), ("scheduled", wanted))}
            quantiles = [("from sent", naive), ("from scheduled", wanted), ("yours", got)]
            rows = [(name, *(f"{percentile(of, q) * 1000:.0f}" for q in (50, 95, 99, 100))) for name, of in quantiles]
            show.table(f"a stall of {ms(stall)}, latencies in ms", ("counted", "p50", "p95", "p99", "max"), rows)
            show.number(f"p99 {ms(p99['scheduled'])}, naive {ms(p99['sent'])}", p99["scheduled"])
        began = min((r.scheduled for r in requests), default=0)
        for one, seconds, right in zip(requests, got, wanted, strict=True):
            assert is_number(seconds), f"{one} got {seconds!r}\nwanted: seconds, or `math.inf`"
            assert math.isclose(seconds, right, rel_tol=1e-9, abs_tol=1e-9), (
                f"due at {one.scheduled - began:.3f} s, sent at {one.sent - began:.3f} s, "
                f"{'never answered' if one.finished is None else f'answered at {one.finished - began:.3f} s'}: "
                f"corrected_latencies says {seconds:.3f} s\nwanted: {right:.3f} s, in the order of the requests"
            )


@pytest.mark.checkpoint(
    "3.9",
    points=2,
    needs=["3.1", "3.4", "3.7"],
    deadline=180,
    hints=(
        "LOAD_PACE_SECONDS=0 is a closed loop: the next request starts when the last one is answered.",
        "Compare with Little's law: users = throughput x latency. Users who are not in flight wait for something.",
    ),
)
def test_two_services_to_their_breaking_point(load_test, workspace, lab, seed, show):
    """Two unknown services, found out.

    All of it together, on services of which your code knows nothing: so many slots, so long a service time. Throughput
    goes up until all slots are taken and not a request further; from there on every new user only makes all
    others wait. That is the hockey stick, and Little's law says beforehand where it bends.
    """
    plans = [unknown(seed, number) for number in (1, 2)]
    runs = load_test(*plans)
    find = lab.breaking_point.find_breaking_point
    outcome = []
    for run in runs:
        run.require("task")
        plan, slots, seconds = run.plan, run.plan.service.slots, run.plan.service.answers[0].seconds
        plateaus = run.plateaus()
        show.at(where_part(workspace, "wait_time"))
        run.require("wait_time")
        if len(plateaus) < plan.steps:
            raise Inconclusive(f"only {len(plateaus)} of {plan.steps} plateaus could be measured")
        all_are_in_flight(run, plateaus)
        by_law = [step * plan.users for step in range(1, plan.steps + 1)]
        true = next(count for count in by_law if count * seconds / slots * 1000 > plan.slo_ms)
        record = lab.records.Step
        steps = [record(p.users, p.requests_per_second, p.mean_ms, p.p95_ms, p.failure_ratio) for p in plateaus]
        show.at(workspace.where_defined(find))
        got = find(steps, plan.slo_ms)
        assert got is None or got in steps, f"find_breaking_point returned {got!r}\nwanted: one of the steps, or None"
        outcome.append((run, plateaus, got, true))
        title = f"{slots} slots of {ms(seconds)}: {plan.steps} steps, nobody waits between requests"
        marks = {"capacity": slots / seconds, "found": got.users if got else None, "true": true}
        show.picture(hockey_stick(title, plateaus, slo_ms=plan.slo_ms, **marks))
    breaks = [got.users if got else "none" for _, _, got, _ in outcome]
    show.number(f"break at {breaks[0]} and {breaks[1]} users", len(breaks))
    for run, plateaus, got, true in outcome:
        good = [p.users for p in plateaus if p.p95_ms <= run.plan.slo_ms and p.failure_ratio <= 0.01]
        measured = next((p.users for p in plateaus if p.users > max(good, default=0)), math.inf)
        if abs(measured - true) > run.plan.users:
            raise Inconclusive(f"this machine is too busy: the lab's own analysis found {measured} users, not {true}")
        off = abs(got.users - true) if got else math.inf
        assert off <= run.plan.users, (
            f"a service that breaks at {true} users was found to break at {got.users if got else 'no'} users\n"
            f"wanted: {true} users, give or take one step: users x service time / slots is above the SLO from there on"
        )


# What the load tests run against. A plan is the same for all checkpoints of a run, which so share one run of Locust.

HEALTHY, FAULTY, FEW = "a healthy service", "10 % bad answers", "0.5 % failures"
GOOD, REFUSED, WRONG, LATE = "right", "a 503", "a wrong mean", "late"

EXPLAINED = {
    REFUSED: ": a refusal is no prediction, however fast it came",
    WRONG: ": a 200 says that the service is content, not that it is right",
    LATE: ": LOAD_DEADLINE_MS={deadline:.0f} was over",
}


TRY = {
    REFUSED: "`response.failure(...)` for every status but 200; without `catch_response=True` it changes nothing.",
    WRONG: "`math.isclose` with the mean of what you sent; without `catch_response=True` `failure` changes nothing.",
    LATE: "`response.request_meta['response_time']` is in ms, as `DEADLINE_MS` is; `time.perf_counter()` in seconds.",
}


def healthy(seed):
    """All is well; every second connection gets its answers slowly, but long before its next request is due."""
    draw = random.Random(f"{seed} healthy")
    pace = round(draw.uniform(0.3, 0.4), 3)
    service = Service((Answer(0.05 * pace), Answer(0.5 * pace)), by_connection=True)
    return Plan(HEALTHY, service, draw.randint(2, 3), steps=3, pace_seconds=pace, slo_ms=2000, deadline_ms=10000)


def faulty(seed):
    """One answer in ten is bad: a refusal, another number, or twice the deadline."""
    draw = random.Random(f"{seed} faulty")
    deadline = draw.randint(250, 400)
    bad = (Answer(0.02, 503, kind=REFUSED), Answer(0.02, right=False, kind=WRONG), Answer(deadline / 500, kind=LATE))
    service = Service((*[Answer(0.02)] * 27, *bad), seed=draw.randrange(10**6), exact=False)
    return Plan(FAULTY, service, 8, step_seconds=3, slo_ms=2000, deadline_ms=deadline)


def slow_for_some(seed):
    """Fast in the mean, and slow for three requests in twenty."""
    draw = random.Random(f"{seed} slow")
    slo = draw.randint(100, 140)
    service = Service((*[Answer(slo / 10000)] * 17, *[Answer(slo / 400)] * 3), seed=draw.randrange(10**6))
    return Plan("15 % slow answers", service, 4, pace_seconds=0.05, slo_ms=slo)


def few_failures(seed):
    """One failure and a few slow answers in 200: within what was promised."""
    draw = random.Random(f"{seed} few")
    slo = draw.randint(400, 600)
    good, slow, refused = [Answer(0.005)] * 49, Answer(slo / 400), Answer(0.005, 503, kind=REFUSED)
    service = Service((*good, slow, *good, slow, refused, *good, slow, *good))  # the 101st, so that 1 % it is at most
    return Plan(FEW, service, 6, pace_seconds=0.03, slo_ms=slo)


def silent(seed):  # noqa: ARG001 - the same for every seed
    """Nothing is ever answered."""
    return Plan("no answer at all", Service((Answer(math.inf),)), 2, stop_seconds=1)


def unknown(seed, number):
    """Slots and service time as the dice fell, and an SLO just below the latency that one of the steps will have.

    A step adds half as many users as there are slots, and the SLO breaks at an odd one: full waves of users are served
    in the time that Little's law says, broken ones take up to a wave longer.
    """
    draw = random.Random(f"{seed} unknown {number}")
    slots, seconds, breaks_at = draw.choice([4, 6, 8]), round(draw.uniform(0.06, 0.1), 3), draw.choice([3, 5])
    slo = (breaks_at - 0.2) * seconds / 2 * 1000
    service = Service((Answer(seconds),), slots=slots)
    return Plan(f"unknown service {number}", service, slots // 2, steps=6, pace_seconds=0, slo_ms=slo)


def must_have_asked(run):
    """Go on only where the service was asked for predictions; what keeps a task from that, 3.1 tells."""
    run.require("task")
    problems = [a.problem for a in run.arrivals] or [r.said for r in run.requests if r.failed]
    assert not any(problems), f"the service was asked for no prediction: {max(problems)}\nwanted: what 3.1 asks for"


def all_are_in_flight(run, plateaus):
    """In a closed loop Little's law finds every user in a request; a good part has to be."""
    for plateau in plateaus:
        busy = plateau.requests_per_second * plateau.mean_ms / 1000
        if busy < 0.7 * plateau.users and run.starved:
            raise Inconclusive(f"this machine is too busy: Locust itself woke {run.late:.1f} s late")
        assert busy >= 0.7 * plateau.users, (
            f"of {plateau.users} users {busy:.1f} were in flight ({plateau.requests_per_second:.1f} requests/s x "
            f"{plateau.mean_ms:.0f} ms)\n"
            "wanted: all of them: with LOAD_PACE_SECONDS=0 nobody waits between requests"
        )


def planned_users(plan, seconds):
    """How many users the plan has at a time; None after its end."""
    step = int(max(seconds, 0) // plan.step_seconds) + 1
    return step * plan.users if step <= plan.steps else None


def gate(run):
    """The exit code that these requests deserve."""
    return int(not run.requests or p95_ms(run) > run.plan.slo_ms or failure_ratio(run) > 0.01)


def p95_ms(run):
    """p95 of a run's requests, 0 without any."""
    return run.p95_ms if run.requests else 0.0


def mean_ms(run):
    """Mean of a run's requests, 0 without any."""
    return fmean(request.latency_ms for request in run.requests) if run.requests else 0.0


def failure_ratio(run):
    """The part of a run's requests that Locust counted as failures."""
    return len(run.failed) / max(len(run.requests), 1)


def traps(rng):
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
    return rng.sample(fixed, len(fixed)) + [("as the dice fell", pattern) for pattern in chances]


def measured(rng, state, slo):
    """What was measured at a step, as its letter says; its throughput says nothing, as in life."""
    p95 = {"s": slo * rng.uniform(1.1, 3), "e": slo}.get(state, slo * rng.uniform(0.1, 0.95))
    failed = {"f": rng.uniform(0.02, 0.5), "e": 0.01}.get(state, rng.uniform(0, 0.009))
    throughput, mean = rng.uniform(10, 500), p95 * rng.uniform(0.2, 0.6)
    return {"requests_per_second": throughput, "mean_ms": mean, "p95_ms": p95, "failure_ratio": failed}


def row(step):
    """A step as a row of a table."""
    rate, mean, p95 = (f"{number:.0f}" for number in (step.requests_per_second, step.mean_ms, step.p95_ms))
    return step.users, rate, mean, p95, f"{step.failure_ratio:.1%}"


def found(step):
    """A breaking point in words."""
    return f"{step.users} users" if step else "none"


def shown(step):
    """A step in words."""
    return (
        f"{step.users} users, {step.requests_per_second:.1f} requests/s, mean {step.mean_ms:.0f} ms, "
        f"p95 {step.p95_ms:.0f} ms, pace {step.pace_seconds:.3g} s"
    )


def users(told):
    """What a shape says, in words."""
    return "the end (None)" if told is None else f"{told} users"


def ms(seconds):
    """Seconds in words, as milliseconds."""
    return f"{seconds * 1000:.0f} ms"
