"""Exercise 2 - timing middleware and metrics.

Only a service that measures how long its requests take can be tuned. You measure latency where the answer leaves,
report it in percentiles, and find out where the time goes. Write `lab/timing.py` and `lab/logs.py`, then wire them
up in `lab/service.py`.

PYTEST_DONT_REWRITE
"""

from contextlib import suppress
from functools import partial

import pytest

from checks.harness.assertions import server_timing as sandwich
from checks.harness.assertions.answers import calling
from checks.harness.assertions.cpu_cost import FILL_SECONDS, LARGE, SMALL, recording_costs
from checks.harness.assertions.metrics_page import figures_in, series
from checks.harness.cell.given_routes import Given
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.fixtures import TALKER
from checks.harness.grading.noise import blame_the_machine_if
from checks.harness.judge.handles import attribute, beside
from checks.harness.judge.made import where_made
from checks.support.ex2 import (
    clocks,
    errors_counted,
    log_lines,
    middleware,
    percentile_cases,
    real_server,
    request_ids,
    route_names,
    server_timings,
    stages,
    streams,
    windows,
)


@pytest.mark.checkpoint(
    "2.1",
    points=3,
    deadline=30,
    hints=(percentile_cases.RANK_HINT, percentile_cases.FLOATS_HINT),
)
def test_percentile(workspace, lab, rng, show):
    """percentile is the nearest rank.

    "p99 = 120 ms" is a promise: of 100 requests 99 were answered within 120 ms. Only a latency that was really measured
    can keep it. Libraries define percentiles differently. On few samples, or far out in the tail, the results differ a
    lot.
    """
    percentile = lab.timing.percentile
    show.at(workspace.where_defined(percentile))
    cases = percentile_cases.cases(rng)
    answers = percentile_cases.answered(percentile, cases, workspace)
    percentile_cases.follows_nearest_rank(percentile, cases, answers, workspace)
    percentile_cases.loses_no_fraction(percentile, workspace)
    for samples, q in (([], 50), ([1.0], -1), ([1.0], 101)):
        percentile_cases.refuses(percentile, samples, q, workspace)
    show.number(f"{len(cases)} percentiles, each a sample", len(cases))


@pytest.mark.checkpoint("2.2", points=2, deadline=20, hints=(windows.UNIT_HINT,))
def test_summary(workspace, lab, rng, show):
    """A summary has every figure in ms.

    A mean hides what users feel: nine answers in 10 ms and one in 5 s have a mean of half a second, and no user waited
    that long. So a summary gives the middle, the tail and the extremes, in one unit. And a route without requests must
    not break this page: it is the first page that people open in an outage.
    """
    window = lab.timing.LatencyWindow(1000)
    show.at(workspace.where_defined(lab.timing.LatencyWindow.summary))
    with calling("the summary of an empty window", workspace, windows.NONE_HINT):
        windows.is_empty_summary(window.summary(), partial(where_made, workspace, window.summary))
    samples = [rng.lognormvariate(-3, 1) for _ in range(rng.randrange(102, 200, 2))]  # a tail, as latencies have
    windows.record_all(window, samples)
    got = figures_in(window.summary(), f"the summary of {len(samples)} samples")
    wanted = windows.expected_summary(samples)
    windows.table_of_figures(show, got, wanted)
    where = partial(where_made, workspace, window.summary)
    for name in wanted:
        windows.is_figure(name, got[name], samples, lab, where)
    show.number(f"p50 {got['p50_ms']:.0f} ms, mean {got['avg_ms']:.0f} ms", got["p50_ms"])


@pytest.mark.checkpoint(
    "2.3",
    points=2,
    deadline=60,
    hints=(windows.RING_HINT, "`record` runs in every request, `summary` only now and then: sort in `summary`."),
)
def test_the_window_forgets(workspace, lab, rng, show):
    """The window holds the last samples only.

    A service runs for months. A list of all samples fills the memory. A maximum over all time shows last week's spike
    for ever. And a slow `record` makes each request slower.
    """
    size, places = rng.randint(80, 120), windows.Places(lab, workspace)
    window = lab.timing.LatencyWindow(size)
    show.at(places.record)
    records = windows.stays_as_large_as_it_is(window, size, rng)

    show.at(places.summary)
    records += windows.holds_the_last_samples(window, size, lab, rng, places)
    count = window.summary()["count"]
    assert count == records, Failure(
        f"count is {count} after {records} records", wanted="all of them, forgotten ones too", hint=windows.COUNT_HINT
    )

    show.at(places.record)
    costs = recording_costs(lab.timing.LatencyWindow)
    assert costs, Failure(
        f"a window of {LARGE:,} was not full after {FILL_SECONDS:g} s of CPU time",
        wanted="well below 0.1 s: `record` does the same little work however many samples there are",
        hint=windows.CHEAP_HINT,
    )
    ratio, control = costs
    show.number(f"1e5 costs {ratio:.1f} times what 1e2 does", ratio)
    if ratio > 8:
        blame_the_machine_if(control, 8)
    assert ratio <= 8, Failure(
        f"recording into a full window of {LARGE:,} costs {ratio:.0f} times what it costs with {SMALL}",
        wanted="about the same: `record` runs in every request",
        hint=windows.CHEAP_HINT,
    )


@pytest.mark.checkpoint(
    "2.4",
    points=3,
    hints=(
        "`time.perf_counter()` before `await self.app(...)`, kept in a local variable; a `send` of your own "
        'passed on, which puts the header on the message of type "http.response.start".',
        "In ASGI header names and values are bytes: append `(b'server-timing', b'app;dur=12.3')` to its list.",
        "`app.add_middleware(TimingMiddleware, ...)` in create_app: the outermost measures all of a caller's wait.",
    ),
)
def test_every_duration_is_true(service, workspace, lab, rng, show):
    """Model <= recorded <= client, each time.

    The model's time is a part of the service's time, and the service's time is a part of the caller's wait. A number
    that breaks this order is wrong, however plausible it looks and however busy the machine is. Waiting for a thread is
    latency, too: it is a part of the caller's wait.
    """
    middleware.begun_in_service(service, lab, workspace, show)
    probe = Probe(held=False, seconds=rng.uniform(0.01, 0.02))
    app = service(model=probe)
    server_timings.every_answer_has_one(app, lab, workspace)
    server_timings.headers_are_kept(app, lab, workspace, rng)
    server_timings.no_header_is_merged(lab, workspace, service)
    alone = server_timings.one_after_the_other(app, probe, rng)
    sandwich.judge(show, "one request after the other", alone, server_timings.where_it_is_written(lab, workspace))

    together = server_timings.fifty_together(service, rng)
    sandwich.judge(show, f"{len(together)} requests together", together)

    rows, waited, settled = server_timings.sixty_for_forty_threads(service, rng, server_timings.long_hold(alone))
    show.picture(sandwich.staircase([*rows[:6], *waited[:6]], "requests to /predict/threaded"))
    sandwich.judge(show, "60 requests, 40 threads", rows)
    for row in waited:
        server_timings.waiting_is_recorded(row, settled)
    show.number(f"{len(waited)} of 60 waited for a thread", len(waited))


@pytest.mark.checkpoint("2.5", points=2, hints=(clocks.HINT,))
def test_the_wall_clock_may_jump(wall_clock, service, workspace, lab, rng, show):
    """A clock set back changes no duration.

    The wall clock is corrected all the time: by NTP, by an operator, by a laptop that wakes up. Here it is set back
    by more than an hour in the middle of a request. Durations taken from it turn negative, or average out to nonsense.
    """
    middleware.begun(lab, workspace, show)
    model, jump = Probe(), rng.uniform(4000, 9000)
    app, report = middleware.alone(lab, service, Given("held", [model], {"stage": "work"}))
    call = app.get("/held")
    app.until(lambda: model.inside)
    middleware.was_held(model, call)
    wall_clock.set_back(jump)
    model.open()
    header = call.answer().headers.get("server-timing", "")
    where, took = clocks.where_the_clock_is_read(wall_clock, workspace), call.finished - call.sent
    page = report()
    for name, seconds in clocks.durations_given(page, "GET /held", header, lab).items():
        clocks.is_none_of_the_jump(name, seconds, jump, took, where)
    recorded = series(page, "GET /held")["max_ms"]
    assert recorded > 0, Failure(
        f"a request of {took * 1000:.0f} ms was recorded with 0 ms",
        wanted="what it took, however the wall clock is set",
        hint=clocks.HINT,
        where=where,
    )
    show.number(f"{jump:.0f} s back: {recorded / windows.one_second(lab) * 1000:.0f} ms", recorded)


@pytest.mark.checkpoint(
    "2.6",
    points=2,
    hints=(errors_counted.CRASH_HINT, errors_counted.GAUGE_HINT, errors_counted.CANCEL_HINT),
)
def test_errors_are_counted_too(service, workspace, lab, rng, show):
    """Errors count, nothing stays in flight.

    Errors are often the fastest answers. If metrics leave them out, or mix them with other answers, an outage looks
    like a speed-up. And if a gauge of requests in flight is wrong by one after each error, it is soon far from the
    truth.
    """
    middleware.begun_in_service(service, lab, workspace, show)
    gate, held_streams = Probe(), Probe()
    app = service(routes=Given("errors", [gate, held_streams]))
    gauge = errors_counted.Gauge(app, errors_counted.lifespan_in_flight(lab))  # 2.7 judges that
    errors_counted.counts_nothing_of_others(app, lab, workspace)
    gauge.shows(0, "GET /metrics itself is the only request", errors_counted.MACHINES_HINT)
    answers = errors_counted.answers_of_every_class(app, rng, lab, workspace)
    crashes = errors_counted.crashes(app, rng)
    errors_counted.crash_after_the_answer(app)
    gauge.shows(0, "all requests are over, some of them crashed", errors_counted.GAUGE_HINT)
    errors_counted.the_gauge_in_between(app, gate, gauge)
    ends_with_the_last_byte = errors_counted.streams_overlap(app, held_streams, gauge)
    if ends_with_the_last_byte:  # 2.7 judges that
        errors_counted.crash_within_the_answer(app, lab)
    show.number(f"{answers} answers and {crashes} crashes counted", answers + crashes)


@pytest.mark.checkpoint("2.7", points=2, hints=(streams.END_HINT, streams.PIECES_HINT))
def test_streams_are_timed_to_their_end(service, workspace, lab, show):
    """A stream is timed to its last byte.

    A model that answers token by token begins at once and ends much later: its latency is that of the last token. And
    if a middleware collects the answer before it sends it, the caller sees nothing until the end.
    """
    middleware.begun(lab, workspace, show)
    show.at(middleware.where_they_send(lab, workspace))
    gate, after = Probe(), Probe()
    app, report = middleware.alone(lab, service, Given("stream", [gate, after]))
    stream = streams.streamed(app, gate, after)
    app.until(lambda: report()["routes"])  # it may be recorded when the app has returned
    recorded = series(report(), "GET /stream")["max_ms"] / windows.one_second(lab)
    show.number(f"streamed {stream.held * 1000:.0f} ms, recorded {recorded * 1000:.0f} ms", recorded)
    waiting_counts = middleware.records_waiting(lab, service)
    streams.is_timed_to_its_end(recorded, stream, lab, waiting_counts=waiting_counts)
    streams.waits_for_the_server(lab, service)
    show.at(workspace.where_defined(attribute(lab.timing.TimingMiddleware, "__call__")))
    streams.other_scopes_pass(lab)


@pytest.mark.checkpoint("2.8", points=2, hints=(route_names.LATE_HINT, route_names.TEMPLATE_HINT))
def test_one_series_a_route(service, workspace, lab, rng, show):
    """One series for each route.

    One name for each path means one name for each user. Such a metrics store has a million series of one sample each:
    it costs more than the service, and its figures say nothing. And requests that only machines send, once a second,
    would hide the latencies of users.
    """
    middleware.begun_in_service(service, lab, workspace, show)
    app = service(routes=Given("items"))
    before = route_names.counts(app)
    with middleware.lines_that_record(lab, workspace) as recorded_at:
        wanted = route_names.ask_all(app, rng)
    counted = dict(route_names.counts(app) - before)
    where = next(filter(None, recorded_at), None)
    route_names.are_named_by_template(counted, wanted, lab, workspace, where)
    show.number(f"{wanted[route_names.TEMPLATE]} ids: {len(counted)} series in all", len(counted))


@pytest.mark.checkpoint(
    "2.9",
    points=2,
    deadline=120,
    hints=(
        "`with structlog.contextvars.bound_contextvars(request_id=...):` around `await self.app(...)`; "
        "`structlog.contextvars.merge_contextvars` as first processor: every line written meanwhile carries the id.",
        "The middleware added last is the outermost. The one that binds the id stands outside of the one that logs.",
        "Try it by hand: `uv run uvicorn --factory lab.service:create_app`, then `curl` it and read the lines.",
    ),
)
def test_one_line_a_request(serve, service, workspace, lab, rng, show):
    """One log line a request, with its id.

    A user reports an id, and with it you find every line of every service that handled the request. If concurrent
    requests mix up their ids, you find the lines of another user. The checkpoint reads the lines of a real process, as
    a log collector does.
    """
    with suppress(AttributeError, TypeError):  # another name or signature is the learner's choice
        lab.logs.configure_logging()
    middleware.begun_in_service(service, lab, workspace, show)
    show.at(workspace.where_defined(lab.service.create_app))
    here = service(routes=Given("context"))
    for path in ("/nowhere", "/metrics"):  # what raises does so here first, where its line is known
        here.get(path).answer()
    server = serve(app=TALKER, access_log=True)
    logged = log_lines.ask_server(server, rng)
    places = log_lines.places_of(lab, workspace)
    log_lines.has_json_lines(logged, server, places)
    show.at(workspace.where_defined(getattr(lab.logs, "log_request", None)))
    log_lines.has_all_keys(logged, places)
    for asked in log_lines.with_ids(logged):
        line = log_lines.line_of(asked, logged, places)
        log_lines.duration_is_long_enough(line, asked, logged, lab, places)
        log_lines.line_is_true(line, asked, logged, places)
        log_lines.answer_echoes_the_id(asked, places)
        if asked.route.endswith("{number}"):
            log_lines.handler_has_the_id(asked, logged, places)
    log_lines.none_is_missing(logged, places)
    request_ids.context_is_left_as_it_was(here, places)
    request_ids.ids_differ(here, places)
    request_ids.headers_are_kept(here, lab, service, places)
    request_ids.no_line_of_a_cancelled_request(lab, workspace, places)
    show.number(f"{len(logged.asked)} requests, {len(logged.of_requests)} lines", len(logged.of_requests))


@pytest.mark.checkpoint("2.10", points=1, deadline=20, hints=(windows.POOL_HINT,))
def test_windows_are_merged(workspace, lab, rng, show):
    """Workers are merged by their samples.

    Four workers have four p99s, and their average is not the p99 of all requests. If one worker has all the slow
    requests, the average hides three quarters of them.
    """
    show.at(workspace.where_defined(lab.timing.merged_summary))
    each, samples = windows.three_windows(lab, rng)
    before = [figures_in(window.summary(), "the summary of a window") for window in each]
    with calling("merged_summary of three windows", workspace):
        got = figures_in(lab.timing.merged_summary(each), "merged_summary of three windows")
    windows.is_summary_of_all(got, before, samples, lab)
    after = [window.summary() for window in each]
    assert after == before, Failure(
        "merging changed a window",
        wanted="unchanged windows: their workers still use them",
        hint="Copy the samples into a new list before you add others.",
    )
    with calling("merged_summary of windows, one of them full or empty,", workspace):
        windows.counts_forgotten_samples(lab)
        windows.ignores_empty_windows(each, got, lab)
    p99s = ", ".join(f"{one['p99_ms']:.0f}" for one in before)
    show.number(f"p99s {p99s}: {got['p99_ms']:.0f} ms", got["p99_ms"])


@pytest.mark.checkpoint("2.11", points=2, deadline=120, hints=(real_server.REPORT_HINT,))
def test_on_a_real_server(serve, service, workspace, lab, rng, show):
    """On a real server the numbers agree.

    The service's numbers and its callers' numbers may differ only by the time on the network. And measuring must cost
    almost nothing, because every request passes the middleware.
    """
    middleware.begun_in_service(service, lab, workspace, show)
    seconds = round(rng.uniform(0.005, 0.015), 3)
    here = service(inference_seconds=0)
    here.post("/predict", {"features": [1.0]}).answer()  # what raises does so here first, where its line is known
    seen = real_server.slow_then_three_quick(service)
    real_server.setting_reaches_all_windows(seen, lab, workspace)

    show.at(workspace.where_defined(lab.service.create_app))
    server = serve(inference_seconds=seconds)
    trace = real_server.load(server)
    own = series(real_server.page_of(server), "POST /predict")
    timing = lab.timing.TimingMiddleware
    show.at(workspace.where_defined(attribute(timing, "__call__")) or workspace.where_defined(timing))
    sent, count = len(trace.requests), own["count"]
    assert count in (sent, sent * seen.times), Failure(  # 2.6 judges whether each request counts once
        f"{sent} requests were counted as {count}", wanted="all of them", hint=real_server.EVERY_REQUEST_HINT
    )
    waiting_counts = middleware.records_waiting(lab, service)
    real_server.figures_lie_between(own, trace, seconds, lab, show, waiting_counts=waiting_counts)
    real_server.costs_little(lab, workspace, show)


@pytest.mark.checkpoint("2.12", points=2, hints=(stages.CONTEXT_HINT, stages.SHARE_HINT))
def test_the_bottleneck_shows(service, workspace, lab, rng, show):
    """Stages show where the time goes.

    "It is slow" does not help. "71 % of the time goes into preprocessing" does, and the slowest stage is often not the
    model. If you optimise the wrong stage, the service stays slow.
    """
    middleware.begun_in_service(service, lab, workspace, show)
    timing = lab.timing
    show.at(workspace.where_defined(timing.stage))
    outside = "`with stage(...)` outside of any request"
    with calling(outside, workspace, stages.OUTSIDE_HINT, of_its_own=True):
        beside(timing.stage).entered(timing.stage, "outside")  # does nothing, and does not fail
    plan = stages.planned(rng)
    refusing = service(routes=plan.routes(stages.PATHS[0]))
    refusing.get("/refused").answer()
    stages.a_stage_that_raises_counts(refusing)
    found = []
    for path in stages.PATHS:  # an app for each: what a series is called, 2.8 judges
        show.at(workspace.where_defined(timing.stage))
        routes = plan.routes(path)
        app = service(routes=routes)
        stages.answers_have_their_own_stages(app, path, routes)
        page = stages.metrics_have_the_stages(app, path, plan.names, show)
        found.append(stages.bottleneck_is_named(page, path, lab, workspace, show))
    stages.largest_share_wins(timing.bottleneck, plan.names, rng, show)
    stages.prediction_routes_time_the_model(service, lab, workspace, show)
    show.number(f"{', '.join(found)}: named", len(found))
