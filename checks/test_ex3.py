"""Exercise 3 - load testing, to the breaking point.

A load test is a measuring instrument: before it measures your service, it has to be right itself. Here Locust runs your
`loadtests/locustfile.py` against services of which every answer is known, and your `lab/breaking_point.py` has to find
where they break.

PYTEST_DONT_REWRITE
"""

import math
from collections import Counter
from dataclasses import replace

import pytest

from checks.harness.assertions.answers import calling, is_number
from checks.harness.errors import Failure
from checks.harness.judge.made import where_constant
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.locate import not_found, where_part
from checks.harness.loadtest.recording import hockey_stick
from checks.harness.loadtest.targets import Answer, Service
from checks.harness.processes.single_requests import FEATURES
from checks.support.ex3 import plans, runs, tables
from checks.support.ex3.runs import NEAR, ms, too_busy


@pytest.mark.checkpoint(
    "3.1",
    points=2,
    deadline=180,
    plans=[plans.healthy],
    parts=["task"],
    hints=(
        '`with self.client.post(PATH, json={"features": features}, catch_response=True) as response:`, with features '
        "made anew for each request. The client has the host already: give it only a path.",
        "Locust counts a request when its `with` block ends. Without a `with` it counts none.",
    ),
)
def test_locust_and_the_service_agree(load_test, workspace, show):
    """Locust runs, and the service agrees.

    A load test is believed until the requests are counted on the other side, too. Requests that were refused for their
    body, went to another host or repeated one cached question give good numbers, too. So do requests that all have
    the same answer.
    """
    show.at(where_part(workspace, "task"))
    [run] = load_test()
    run.require("task")
    sent, arrived = run.requests, run.arrivals
    said = f": {sent[0].said}" if sent and sent[0].said else ""
    assert arrived, Failure(
        f"Locust reports {len(sent)} requests, and none arrived at the service{said}",
        "they go to the host that `--host` names",
        "Give the client only a path: no `http://` and no host.",
    )
    problems = [arrival.problem for arrival in arrived if arrival.problem]
    assert not problems, Failure(
        f"{len(problems)} of {len(arrived)} requests asked for no prediction: {problems[0]}",
        'each is a `POST` to /predict with a JSON body {"features": [1.0, ...]}',
        '`self.client.post(PATH, json={"features": features}, catch_response=True)`',
    )
    runs.require_varied(arrived)
    rows = Counter((request.method, request.name) for request in sent)
    names = ", ".join(" ".join(row) for row, _ in rows.most_common(3))
    assert len(rows) <= 1, Failure(
        f"Locust reports {len(rows)} rows: {names}...",
        "one row: a percentile needs many requests under one name",
        "Without `name=`, or with the same one for all, requests to one path are one row.",
    )
    hint = "Locust counts what `self.client` sends, with `catch_response=True` when the `with` block of a request ends."
    runs.require_all_counted(run, hint)
    assert not run.failed, runs.innocent_failure(run.failed, run, workspace)
    show.number(f"{len(sent)} sent, {len(arrived)} arrived", len(sent))


@pytest.mark.checkpoint(
    "3.2",
    points=3,
    deadline=180,
    plans=[plans.faulty],
    parts=["task"],
    hints=(
        "Inside the `with` block: `response.failure(...)` for a status that is not 200, for a prediction that is not "
        "the mean of what you sent, and for an answer that took longer than `DEADLINE_MS`.",
        "How long it took: `time.perf_counter()` before and after, or `response.request_meta['response_time']` in ms. "
        "What the answer holds: `response.json()`, which raises where there is no JSON.",
        "`math.isclose` compares floating point as it must be compared: another order of additions gives other digits.",
    ),
)
def test_failures_are_counted(load_test, workspace, show):
    """Only bad answers count as failures.

    A service in trouble is often fast: an error page takes no time, and an empty result is a 200. A load test that
    looks at the status alone reports its best throughput when everything is broken. And an answer after its deadline
    is of no use any more.
    """
    show.at(where_part(workspace, "task"))
    [run] = load_test()
    dealt = Counter(arrival.answer.kind for arrival in run.arrivals if arrival.answer)
    bad = (plans.REFUSED, plans.WRONG, plans.NEARLY, plans.LATE)
    if len(dealt) <= len(bad):
        runs.must_have_asked(run)
        raise too_busy(f"only {len(run.arrivals)} requests were sent in {run.plan.seconds:g} s")

    counted, missed, innocent = runs.counts(run)
    rows = [("good", dealt[plans.GOOD], len(innocent), runs.good_as_good(run))]
    rows += [(kind, dealt[kind], counted[kind], missed[kind]) for kind in bad]
    show.table("what the service did", ("answers", "given", "counted as failures", "as good"), rows)
    for kind in bad:
        of = missed[kind] + counted[kind]
        assert not missed[kind], runs.missed_failure(kind, missed[kind], of, run, workspace)
    hint = (
        "Look at the status first: an answer that is not good may hold no JSON, and no prediction. "
        "`response.failure(...)` counts it; what raises, an `assert` too, ends the task before it is counted."
    )
    runs.require_all_counted(run, hint)
    assert not innocent, runs.innocent_failure(innocent, run, workspace)
    show.number(f"{sum(counted.values())} of {len(run.requests)} failed", sum(counted.values()))


@pytest.mark.checkpoint(
    "3.3",
    points=2,
    deadline=180,
    plans=[plans.healthy],
    parts=["wait_time", "task"],
    hints=(
        "A fixed wait (`constant`, `between`) comes on top of the answer's time. `constant_pacing(PACE_SECONDS)` and "
        "`constant_throughput(1 / PACE_SECONDS)` take it into account (but divide by a pace of 0 with care).",
    ),
)
def test_users_keep_their_pace(load_test, workspace, show):
    """Users keep their pace.

    Users do not wait longer between two requests because the service has become slow. A load test with users who do
    sends less as soon as the service is slow, and never measures it under load.
    """
    show.at(where_part(workspace, "wait_time"))
    [run] = load_test()
    run.require("wait_time")
    pace, most = run.plan.pace_seconds, run.plan.users * run.plan.steps
    connections = {arrival.connection for arrival in run.arrivals}
    assert len(connections) <= 2 * most, Failure(
        f"{most} users opened {len(connections)} connections",
        "one each, kept open: a new one for every request costs more than the request",
        "`self.client` of a `FastHttpUser` or `HttpUser` keeps its connection: use no other client.",
        where_part(workspace, "task"),
    )
    rows = []
    for place, answer in enumerate(run.plan.service.answers):
        gaps = run.gaps(number for number in connections if number % 2 == place)
        if not gaps:
            runs.must_have_asked(run)
            runs.require_some_requests(run, most)
        rows.append((answer.seconds, *(percentile(gaps, q) for q in (25, 50, 75))))
    columns = ("an answer takes", "p25", "median", "p75", "wanted")
    show.table("from request to request of a user", columns, [[ms(value) for value in (*row, pace)] for row in rows])
    show.number("every " + " and ".join(ms(middle) for _, _, middle, _ in rows), rows[-1][2])
    for seconds, *quartiles in rows:
        gap, most_off = quartiles[1], max(quartiles, key=lambda gap: abs(gap - pace))
        if abs(gap - pace) <= NEAR * pace:
            gap = most_off
        if runs.excuses(run, gap):
            raise too_busy(f"Locust woke {ms(run.lateness)} late")
        hint, part = runs.pace_hint(quartiles[1], seconds, pace)
        often = "" if abs(quartiles[1] - pace) > NEAR * pace else ", in one case of four"
        assert abs(gap - pace) <= NEAR * pace, Failure(
            f"a user sent a request every {ms(gap)}{often}, where an answer takes {ms(seconds)}",
            f"every {ms(pace)}, as LOAD_PACE_SECONDS={pace:g} says, however long the answer takes",
            hint,
            where_part(workspace, part),
        )


@pytest.mark.checkpoint(
    "3.4",
    points=2,
    deadline=180,
    plans=[plans.healthy],
    parts=["tick", "task"],
    hints=(
        "Which step is it at `self.get_run_time()`? One division, rounded down, plus 1. After step `STEPS`: `None`.",
        "The second number is how many users may come per second: as many as there are to be, or they come slowly.",
    ),
)
def test_the_load_climbs_in_plateaus(load_test, workspace, show):
    """The load climbs in plateaus, and ends.

    A number belongs to a load only if the load was steady while it was measured. So use plateaus of equal length. In a
    ramp one percentile mixes many loads.
    """
    show.at(where_part(workspace, "tick"))
    [run] = load_test()
    plan = run.plan
    wanted = "`class StepLoad(LoadTestShape)`"
    assert run.shape, not_found(
        workspace, "shape", "Locust found no shape in the locustfile", wanted, where_part(workspace, "shape")
    )
    run.require("tick")
    show.table(
        "what the shape answered",
        ("second", *(f"{tick.latest:.1f}" for tick in run.ticks)),
        [("users", *("None" if tick.answer is None else tick.answer[0] for tick in run.ticks))],
    )
    begun = run.ticks[0].latest + 0.05  # a shape may count from its first call
    hint, part = runs.shape_hint(run)
    for tick in run.ticks:
        users = tick.answer and tick.answer[0]
        planned = runs.planned_users(plan, tick.latest)
        assert users in runs.planned_between(plan, tick.earliest - begun, tick.latest), Failure(
            f"after {tick.latest:.1f} s the shape wanted {runs.in_words(users)}",
            f"{runs.in_words(planned)}: {plan.steps} steps of {plan.users} users, {plan.step_seconds:g} s each",
            hint,
            where_part(workspace, part),
        )
    for tick in run.ticks:
        assert tick.answer is None or tick.answer[1] >= plan.users, Failure(
            f"a step's {plan.users} users come at {tick.answer[1]:g} per second, one after the other",
            f"at once, at {plan.users} per second or more",
            "The second number of the pair is users per second: as many as the step has.",
        )
    show.number(f"{plan.steps} steps of {plan.users} users", plan.steps)


@pytest.mark.checkpoint(
    "3.5",
    points=2,
    deadline=180,
    plans=plans.FOR_THE_GATE,
    parts=["gate", "task"],
    hints=(
        "`environment.stats.total` has `get_response_time_percentile(0.95)` in ms, `fail_ratio` and `num_requests`.",
        "Set `environment.process_exit_code` to 0 as well: where it is not set, Locust decides by rules of its own.",
    ),
)
def test_the_gate_decides(load_test, workspace, show):
    """The exit code says whether the SLO held.

    In a pipeline the exit code alone decides what is delivered. A mean hides that one user in twenty waits. People soon
    switch off a gate that fails at one failure. A gate that passes a run without answers checks nothing. And where
    workers share the work, the master alone has all numbers.
    """
    show.at(where_part(workspace, "gate"))
    recorded, wanted = load_test(), (0, 1, 0, 1, 1, 1)
    rows = []
    for run, code in zip(recorded, wanted, strict=True):
        times = [f"{one:.0f}" for one in (run.mean_ms, run.p95_ms, run.plan.slo_ms)]
        rows.append((run.plan.what, *times, f"{run.failure_ratio:.1%}", run.exit_code, code))
    columns = ("against", "mean", "p95", "SLO", "failed", "exit", "wanted")
    show.table("exit codes (times in ms)", columns, rows)
    hint, where = runs.gate_mended(recorded, workspace)
    show.at(where)
    for run in recorded:
        run.require("listener")
        assert run.exit_code == runs.gate(run) or runs.near_the_slo(run), Failure(
            f"{run.plan.what}: {len(run.requests)} requests, mean {run.mean_ms:.0f} ms, p95 {run.p95_ms:.0f} ms, "
            f"{run.failure_ratio:.1%} failed, and the exit code was {run.exit_code}",
            f"{runs.gate(run)}, with an SLO of {run.plan.slo_ms:.0f} ms for the p95 and at most 1 % failures"
            f"{'' if run.requests else ': without an answer the SLO did not hold'}",
            hint,
        )
        runs.require_idle_workers(run)
    for run, code in zip(recorded, wanted, strict=True):
        runs.require_planned_exit(run, code)
    show.number("exit codes " + " ".join(str(run.exit_code) for run in recorded), len(recorded))


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
    generator was too slow or the load was not steady, and the p95 means nothing.
    """
    littles_law, trustworthy = lab.breaking_point.littles_law, lab.breaking_point.trustworthy
    show.at(workspace.where_defined(littles_law))
    for _ in range(20):
        rate, seconds = rng.uniform(1, 1000), rng.uniform(0.001, 2)
        got = littles_law(rate, seconds)
        assert is_number(got), Failure(f"littles_law({rate:.1f}, {seconds:.3f}) returned {got!r}", "a number")
        assert math.isclose(got, rate * seconds, rel_tol=1e-9), Failure(
            f"{rate:.1f} requests/s that take {seconds:.3f} s each: littles_law says {got:.4g} are in flight",
            f"{rate * seconds:.4g}",
            "Requests in flight = requests/s x seconds.",
        )
    show.at(workspace.where_defined(trustworthy))
    made = tables.steps_near_the_limit(rng)
    steps = [lab.records.Step(**numbers) for numbers, _ in made]
    judged = [trustworthy(step) for step in steps]
    hint, right = tables.law_hint(steps, judged), [abs(off) <= 0.15 for _, off in made]
    calls = [(step,) for step in steps]
    if where := where_constant(workspace, trustworthy, calls, right, 0.15) if judged != right else None:
        hint = "This number must be 0.15: 15 % of `step.users`."
    for step, (_, off), got in zip(steps, made, judged, strict=True):
        honest, cycle = abs(off) <= 0.15, max(step.pace_seconds, step.mean_ms / 1000)
        assert got is honest, Failure(
            f"{tables.step_in_words(step)}: trustworthy says {got!r}",
            f"{honest}: {step.requests_per_second:.1f} requests/s x {cycle:.3f} s is {step.users * (1 + off):.1f} in "
            f"flight. The difference is {step.users * abs(off):.1f} users. Allowed: 15 % of {step.users} = "
            f"{0.15 * step.users:.4g}",
            hint,
            where,
        )
    show.number(f"{len(steps)} steps judged", len(steps))


@pytest.mark.checkpoint(
    "3.7",
    points=3,
    deadline=15,
    parts=["find_breaking_point"],
    hints=(
        "Go through the steps from the last one backwards, for as long as they are bad.",
        "Good is p95 at most the SLO and at most 1 % failures: both. Throughput does not matter.",
    ),
)
def test_the_breaking_point(workspace, lab, rng, show):
    """find_breaking_point finds the break.

    The breaking point is a number for capacity planning: from this load on, the promise is broken for good. A single
    bad step is a garbage collection or a neighbour. The highest throughput is no promise at all: often it is reached
    while all users wait.
    """
    find = lab.breaking_point.find_breaking_point
    show.at(workspace.where_defined(find))
    made, found = tables.tables_with_traps(rng, lab.records.Step), []
    for _, steps, slo in made:
        before = [*steps]
        got = find(steps, slo)
        assert steps == before, Failure(
            "find_breaking_point changed the list of steps", "the list as it was", "`reversed(steps)` changes nothing."
        )
        assert got is None or got in steps, Failure(
            f"find_breaking_point returned {got!r}", "one of the steps, or None", "Return the step itself."
        )
        found.append(got)
    hint = tables.break_hint([(steps, slo) for _, steps, slo in made], found)
    calls, right = [(steps, slo) for _, steps, slo in made], [tables.break_of(steps, slo) for _, steps, slo in made]
    if where := where_constant(workspace, find, calls, right, 0.01) if found != right else None:
        hint = "This number must be 0.01: at most 1 % of the requests failed."
    for (trap, steps, slo), got in zip(made, found, strict=True):
        wanted = tables.break_of(steps, slo)
        if got != wanted:
            columns = ("users", "requests/s", "mean ms", "p95 ms", "failed")
            show.table(f"{trap}, SLO {slo:.0f} ms", columns, [*map(tables.row, steps)])
        assert got == wanted, replace(tables.wrong_break(trap, steps, slo, got, wanted, hint), where=where)
    show.number(f"{len(made)} load tests judged", len(made))


@pytest.mark.checkpoint(
    "3.8",
    points=2,
    deadline=60,
    hints=(
        "A latency counts from when the request was due (`scheduled`), not from when it could be sent.",
        "A request that was never answered stays in the list. Its latency is `math.inf`, longer than any other.",
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
    with calling("corrected_latencies of no requests", workspace):
        corrected([])  # a stub needs no service
    start, stall = rng.uniform(0.2, 0.4), rng.uniform(0.5, 0.7)
    service = serve_target(Service((Answer(0.004),), stall=(start, start + stall)))
    load = {"rate": 200, "seconds": 1.5, "seed": rng.randrange(10**6), "connections": 2}
    trace = open_loop(f"{service.url}/predict", body=FEATURES, **load)
    real = [request(r.scheduled, r.sent, r.finished) for r in trace.requests if r.sent is not None]
    for requests in (real, tables.made_up_requests(rng, request), []):
        naive, wanted = tables.latencies_of(requests, "sent"), tables.latencies_of(requests, "scheduled")
        with calling("corrected_latencies, with requests of which some were never answered,", workspace):
            got = corrected(requests)
        assert isinstance(got, list), Failure(
            f"corrected_latencies returned {got!r}", "a list of seconds", "`return [... for request in requests]`."
        )
        assert len(got) == len(wanted), Failure(
            f"{len(wanted)} requests gave {len(got)} latencies",
            "one for each: for those that were sent on time, too, and for those without an answer",
            "Leave no request out. One that was never answered took `math.inf`.",
        )
        if requests is real:
            p99 = {name: percentile(of, 99) for name, of in (("sent", naive), ("scheduled", wanted))}
            quantiles = [("from sent", naive), ("from scheduled", wanted), ("yours", got)]
            rows = [(name, *(f"{percentile(of, q) * 1000:.0f}" for q in (50, 95, 99, 100))) for name, of in quantiles]
            show.table(f"a stall of {ms(stall)}, latencies in ms", ("counted", "p50", "p95", "p99", "max"), rows)
            show.number(f"p99 {ms(p99['scheduled'])}, naive {ms(p99['sent'])}", p99["scheduled"])
        for one, seconds, right in zip(requests, got, wanted, strict=True):
            assert is_number(seconds), Failure(
                f"{one} gave {seconds!r}",
                "seconds, or `math.inf`",
                "`math.inf` where `finished` is None: a number, which a percentile can sort."
                if seconds is None
                else "",
            )
            assert math.isclose(seconds, right, rel_tol=1e-9, abs_tol=1e-9), tables.wrong_latency(
                one, seconds, right, requests, got
            )


@pytest.mark.checkpoint(
    "3.9",
    points=2,
    needs=["3.1", "3.4", "3.7"],
    deadline=180,
    plans=[plans.first_unknown, plans.second_unknown],
    parts=["wait_time", "task"],
    hints=(
        "LOAD_PACE_SECONDS=0 is a closed loop: the next request starts when the last one is answered.",
        "Compare with Little's law: users = throughput x latency. Users who are not in flight wait for something.",
    ),
)
def test_two_services_to_their_breaking_point(load_test, workspace, lab, show):
    """Two unknown services, found out.

    All of it together, on services that your code has never seen: so many slots, so long a service time. Throughput
    goes up until all slots are taken and not a request further; from there on every new user only makes all
    others wait. That is the hockey stick, and Little's law says beforehand where it bends.
    """
    find = lab.breaking_point.find_breaking_point
    outcome = []
    for run in load_test():
        plan, slots, seconds = run.plan, run.plan.service.slots, run.plan.service.answers[0].seconds
        plateaus = run.plateaus()
        show.at(where_part(workspace, "wait_time"))
        run.require("task")
        run.require("wait_time")
        if len(plateaus) < plan.steps:
            raise too_busy(f"only {len(plateaus)} of {plan.steps} plateaus could be measured")
        runs.all_are_in_flight(run, plateaus)
        by_law = [step * plan.users for step in range(1, plan.steps + 1)]
        true = next(count for count in by_law if count * seconds / slots * 1000 > plan.slo_ms)
        record = lab.records.Step
        steps = [record(p.users, p.requests_per_second, p.mean_ms, p.p95_ms, p.failure_ratio) for p in plateaus]
        show.at(workspace.where_defined(find))
        got = find(steps, plan.slo_ms)
        assert got is None or got in steps, Failure(
            f"find_breaking_point returned {got!r}", "one of the steps, or None", "Return the step itself."
        )
        outcome.append((run, plateaus, got, true))
        title = f"{slots} slots of {ms(seconds)}: {plan.steps} steps, no wait between requests"
        marks = {"capacity": slots / seconds, "found": got.users if got else None, "true": true}
        show.picture(hockey_stick(title, plateaus, slo_ms=plan.slo_ms, **marks))
    breaks = [got.users if got else "none" for _, _, got, _ in outcome]
    show.number(f"break at {breaks[0]} and {breaks[1]} users", len(breaks))
    for run, plateaus, got, true in outcome:
        runs.require_the_break(run, plateaus, got, true)
