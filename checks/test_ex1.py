"""Exercise 1 - your first inference endpoint.

One model, called in three ways: awaited, on a thread, and blocking the event loop. You build all three, then see what
each does to sixty callers at once. Write `lab/service.py` and `lab/model.py`, then predict it in `lab/predictions.py`.

PYTEST_DONT_REWRITE
"""

import pytest

from checks.harness.assertions.answers import calling, calls_inside, content
from checks.harness.assertions.routed import routed
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.fixtures import CONTROL
from checks.harness.grading.noise import best_of, blame_the_machine_unless
from checks.harness.machine import fair_clock
from checks.support.ex1 import answers, bodies, burst, concurrency

CALLERS = 60  # more than the 40 threads of FastAPI's pool


@pytest.mark.checkpoint(
    "1.1",
    points=1,
    hints=(
        "`FastAPI(title=...)`, `app.include_router(router)`, `app.add_exception_handler(...)`, then return the app.",
    ),
)
def test_health(service, workspace, lab, show):
    """/health answers with its process id.

    A load balancer sends traffic only to processes whose health endpoint answers; with several workers behind one port,
    the pid says which of them answered.
    """
    show.at(workspace.where_defined(lab.service.create_app))
    service.create_app()  # as a server does: the settings come from the environment
    app = service()
    health = app.get("/health").answer()
    routed(app, health)
    assert health.status_code == 200, Failure(
        f"GET /health gave {health.status_code}", wanted="200", where=app.where_routed
    )
    fields = content(health)
    assert fields == fields | {"status": "ok", "pid": app.pid}, Failure(
        f"GET /health answered {health.text[:80]}",
        wanted='{"status": "ok", "pid": ...} with the id of the process that answers',
        hint=answers.what_health_lacks(fields),
        where=app.where_routed,
    )
    title = answers.title_of(app)
    assert title not in ("", "FastAPI"), Failure(
        f"the app's title is {title!r}", wanted="a title of its own", hint='`FastAPI(title="...")`.'
    )
    for page in ("/openapi.json", "/docs"):
        status = app.get(page).answer().status_code
        assert status == 200, Failure(
            f"GET {page} gave {status}",
            wanted="FastAPI's own page of all routes",
            hint="FastAPI makes it unless `openapi_url`, `docs_url` or a route of yours says otherwise.",
        )
    show.number(f"pid {app.pid}", app.pid)


@pytest.mark.checkpoint(
    "1.2",
    points=2,
    hints=(
        "The handler awaits `model.predict(body.features)` and returns the answer in a `PredictResponse`. Take "
        "the model from `Depends(get_model)`: this checkpoint replaces it by a model of its own.",
    ),
)
def test_predict_honours_its_contract(service, workspace, lab, rng, show):
    """/predict does what its description says.

    A service calls its model exactly once for each request, with the features that the caller sent, and returns the
    model's answer unchanged. It refuses a body that is not a list of numbers before it calls the model: a NaN would
    give a prediction that nobody can explain.
    """
    # The probe takes the place of the model. Its answers cannot be guessed from the features.
    probe = Probe(held=False, seconds=0)
    app = service(model=probe)
    show.at(workspace.where_defined(lab.service.create_app))
    questions = [answers.features(rng) for _ in range(5)]
    for question in [*questions, questions[0], questions[0], [1, 2]]:  # one comes again; an integer is a number, too
        earlier = [*probe.calls]
        request = app.post("/predict", {"features": question})
        request.answer()
        answers.the_models_own(app, request, question, probe.calls[len(earlier) :], workspace, earlier)

    lines = bodies.lines_of(getattr(lab.service, "PredictRequest", app.endpoint), workspace)
    bodies.any_numbers_are_taken(app, rng, lines)
    answers.one_call_each(service, questions[0], workspace)
    answers.is_an_app_of_its_own(app, service, rng)

    for body in bodies.BAD_BODIES:
        bodies.refuse(app, body, probe, lines)
    extra = app.post("/predict", {"features": [1.0], "unknown": "field"}).answer()
    assert extra.status_code < 500, Failure(
        f"a field that /predict does not have gave {extra.status_code}", wanted="ignored, or a 422", where=lines.field
    )
    show.number(f"{len(bodies.BAD_BODIES)} bad bodies refused", len(bodies.BAD_BODIES))


@pytest.mark.checkpoint(
    "1.3",
    points=3,
    deadline=30,
    hints=(
        "`time.sleep` blocks the thread and everything that runs on it. `await asyncio.sleep` gives the thread "
        "back to the event loop until the time is over.",
        "Keep only `seconds` in the model: then sixty calls of one model can wait side by side.",
    ),
)
def test_the_model_waits(workspace, lab, rng, show):
    """The model waits, all calls side by side.

    While one call awaits its answer, a service can begin a thousand others; while one blocks, it can do nothing. The
    awaited waits run on a virtual clock, which jumps from timer to timer: it is exact, however busy the machine is.
    """
    from checks.support.ex1 import model

    seconds = rng.uniform(0.02, 0.05)
    show.at(workspace.where_defined(lab.model.SimulatedModel.predict))
    model.awaits(lab.model.SimulatedModel, seconds, rng, workspace)
    model.awaits_side_by_side(lab.model.SimulatedModel, seconds, rng, show, CALLERS, workspace)
    show.at(workspace.where_defined(lab.model.SimulatedModel.predict_blocking))
    longer = rng.uniform(0.11, 0.14)  # than the default of the settings
    model.blocks(lab.model.SimulatedModel, longer, rng, workspace)
    for name in ("predict", "predict_blocking"):
        show.at(workspace.where_defined(getattr(lab.model.SimulatedModel, name)))
        model.answers_the_mean(lab.model.SimulatedModel, name, rng)


@pytest.mark.checkpoint(
    "1.4",
    points=3,
    hints=(
        "In an `async def` everything that waits is awaited: `await model.predict(...)`.",
        "A blocking call in an `async def` blocks the only thread of the event loop.",
    ),
)
def test_predict_serves_60_callers_at_once(service, workspace, lab, rng, show):
    """/predict serves 60 callers at once.

    While one request awaits the model, the event loop can start all the others. One blocking call stops them all: each
    request then waits for all those before it, and p99 grows with every user. This checkpoint measures no time. Its
    model holds all calls until 60 are inside, or until no more can come.
    """
    probe = Probe()
    app = service(model=probe)
    calls = answers.ask(app, "/predict", rng, CALLERS)
    app.until(lambda: probe.questions_inside == CALLERS or app.where_slept())
    held, slept = probe.held_calls, app.where_slept()
    held_up, threads = app.where_held_up(CALLERS - probe.questions_inside), app.threads()
    busy = app.pool_threads_in_use() if probe.calls and not probe.calls[0].on_loop else 0
    probe.open()
    app.finish([*calls.values()], seconds=3)
    together = concurrency.requests_inside(held, len(probe.calls), calls)

    answers.reached(app, probe, calls, service)
    show.number(f"{together} of {CALLERS} in the model together", together)
    show.picture(concurrency.staircase(f"{CALLERS} requests to /predict", calls, probe))
    show.at(workspace.where_defined(next(iter(calls.values())).endpoint))
    show.at(workspace.where(*probe.calls[0].caller))
    assert not slept, Failure(
        "time.sleep was called on the event loop's own thread, which stopped all other requests",
        wanted="in an `async def` all waiting is awaited",
        hint="`await asyncio.sleep(...)` waits and lets the others run.",
        where=slept,
    )
    why, hint = concurrency.why_not_all(probe, together, busy)
    assert together == CALLERS, Failure(
        f"{calls_inside(together, CALLERS)}: {why}",
        wanted=f"all {CALLERS}",
        hint=hint,
        where=held_up,
    )
    called_on = len({call.thread for call in probe.calls})
    assert called_on == 1, Failure(
        f"the model was called on {called_on} threads",
        wanted="await model.predict, on the event loop's own",
        hint="`await model.predict(...)` waits without a thread, however many calls there are.",
    )
    assert threads < CALLERS, Failure(
        f"the service had {threads} threads while {CALLERS} calls waited",
        wanted="await model.predict, on the event loop's own",
        hint="`await model.predict(...)` waits without a thread, however many calls there are.",
    )
    concurrency.needs_no_thread(app, lab.service.get_model, workspace)
    concurrency.own_way_to_the_model(service, CALLERS, rng)


@pytest.mark.checkpoint(
    "1.5",
    points=2,
    hints=(
        "Write it as a plain `def` and call `model.predict_blocking`: FastAPI itself moves it to its pool of threads.",
    ),
)
def test_threaded_is_limited_by_its_pool(service, workspace, lab, rng, show):
    """/predict/threaded: one call a thread.

    Blocking code on threads is not a mistake, and often the only way: most model libraries block. But the pool has 40
    threads for the whole process: the 41st caller waits, even on an idle machine. Code that needs no thread can still
    run.
    """
    pool, service_file = lab.settings.Settings().thread_pool_size, workspace.tree / "lab" / "service.py"
    probe = Probe()
    app = service(model=probe)
    calls = answers.ask(app, "/predict/threaded", rng, CALLERS)
    app.until(lambda: probe.inside == CALLERS)
    together, held_up = probe.inside, app.where_held_up(CALLERS - probe.inside)
    threads = app.threads()
    health = app.get("/health")
    app.until(lambda: health.done)
    healthy, busy = health.done, app.pool_threads_in_use()
    probe.open()
    app.finish([*calls.values()], seconds=3)

    show.at(workspace.where_defined(next(iter(calls.values())).endpoint or lab.service.create_app))
    answers.reached(app, probe, calls)
    show.number(f"{together} of {CALLERS} inside: the pool", together)
    show.picture(concurrency.staircase(f"{CALLERS} requests to /predict/threaded", calls, probe))
    how, hint = concurrency.why_not_the_pool(probe, together, pool, busy)
    assert together == pool, Failure(
        f"{calls_inside(together, CALLERS)}{how}",
        wanted=f"{pool}, one for each thread of FastAPI's own pool",
        hint=hint,
        where=held_up
        or (workspace.where_written(service_file, "total_tokens") if together > pool and busy == together else None),
    )
    assert probe.calls[0].blocking, Failure(
        "the threads called predict, which must be awaited", wanted="predict_blocking on each thread", hint=hint
    )
    assert busy == pool, Failure(
        f"{busy} of FastAPI's {pool} threads were in use", wanted="all calls on FastAPI's own pool", hint=hint
    )
    assert probe.peak == pool, Failure(
        f"{probe.peak} calls were in the model together in the end", wanted=f"{pool}, one for each thread", hint=hint
    )
    assert threads >= pool, Failure(
        f"the service had {threads} threads while {pool} calls waited", wanted="one for each call", hint=hint
    )
    assert healthy, Failure(
        "GET /health got no answer while all threads were taken",
        wanted="an answer",
        hint="A plain `def` needs a thread of the same pool. Make `/health` an `async def`: an `async def` needs none.",
        where=workspace.where_defined(health.endpoint),
    )
    answers.all_the_models_own(app, calls, probe, workspace)
    bodies.refuse_as_predict_does(app, "/predict/threaded")


@pytest.mark.checkpoint(
    "1.6",
    points=2,
    hints=(
        "Call `model.predict_blocking` in an `async def`, without `await` and without a thread: this route makes "
        "the mistake on purpose.",
    ),
)
def test_blocking_stops_the_whole_process(service, workspace, lab, rng, show):
    """/predict/blocking stops the process.

    One blocking call in an `async def` stops the whole process, its health check included. A busy service then looks
    dead to its load balancer and is restarted in the middle of its work. This route keeps the mistake on purpose, so
    that you can measure it.
    """
    probe = Probe()
    app = service(model=probe)
    calls = answers.ask(app, "/predict/blocking", rng, 8)
    app.until(lambda: probe.inside == len(calls))
    health = app.get("/health")
    app.until(lambda: health.done)
    healthy = health.done
    probe.open()
    app.finish([*calls.values(), health], seconds=5)

    show.at(workspace.where_defined(next(iter(calls.values())).endpoint or lab.service.create_app))
    answers.reached(app, probe, calls)
    first = probe.calls[0]
    show.number(f"{probe.peak} of {len(calls)} at a time", probe.peak)
    show.picture(concurrency.staircase(f"{len(calls)} requests to /predict/blocking", calls, probe))
    hint = "An `async def` that calls `model.predict_blocking`, without `await` and without a thread."
    assert first.blocking, Failure(
        "/predict/blocking awaits model.predict, so it blocks nothing",
        wanted="the mistake: predict_blocking in an `async def`",
        hint=hint,
    )
    assert first.on_loop, Failure(
        "/predict/blocking called predict_blocking on a thread of its own, so it blocks nothing",
        wanted="the mistake: on the event loop's own thread",
        hint=hint,
    )
    assert probe.peak == 1, Failure(f"{probe.peak} calls were in the model together", wanted="1 at a time", hint=hint)
    assert not healthy, Failure(
        "GET /health was answered while the model was busy", wanted="it waits behind the blocking call", hint=hint
    )
    answers.all_the_models_own(app, calls, probe, workspace)
    bodies.refuse_as_predict_does(app, "/predict/blocking")


@pytest.mark.checkpoint(
    "1.7",
    points=2,
    hints=("Keep what belongs to one request in local variables: not on the module, the app or the model.",),
)
def test_each_caller_gets_its_own_answer(service, workspace, lab, rng, show):
    """Each caller gets its own answer.

    Between an `await` and the next line other requests can run. They overwrite what a request keeps on a module, the
    app or the model. The fault shows only under load, and gives one user's data to another user.
    """
    probe = Probe()
    app = service(model=probe, inference_seconds=0.02)
    calls = answers.ask(app, "/predict", rng, 50)

    def progress():
        return len(probe.calls), sum(call.done for call in calls.values())

    app.until(lambda: probe.questions_inside == len(calls))
    if probe.questions_inside == len(calls):  # where they cannot be inside together, 1.4 says so
        for call in rng.sample(probe.calls, 25):  # the last one to come may be the first to leave
            before = progress()
            probe.release(call)
            app.until(lambda before=before: progress() != before)
    probe.open()  # and the others all at once
    app.until(lambda: all(call.done for call in calls.values()))
    where = workspace.where_defined(next(iter(calls.values())).endpoint)
    answers.own_answers(app, calls, where, right=probe.answer, first="1.2")

    model = lab.model.SimulatedModel  # and now your own model
    answers.must_be_awaitable(model(0.001))
    app.use_their_model()
    show.at(workspace.where_defined(lab.service.get_model))
    answers.own_answers(app, answers.ask(app, "/predict", rng, 50), workspace.where_defined(model.predict))
    show.number(f"{len(calls)} callers, {len(calls)} own answers", len(calls))


@pytest.mark.checkpoint(
    "1.8",
    points=2,
    deadline=15,
    hints=(
        "How many calls can be in the model together? That many calls form a wave. How many waves has the burst?",
        "A last wave that is not full takes as long as a full one: round the number of waves up (`math.ceil`).",
    ),
)
def test_burst_seconds(workspace, lab, rng, show):
    """burst_seconds predicts a burst.

    With a prediction made beforehand you notice when a service does something else. The arithmetic is short: the
    model's time, and how many calls go through together.
    """
    burst_seconds = lab.predictions.burst_seconds
    show.at(workspace.where_defined(burst_seconds))
    kinds = ["async", "threaded", "blocking"]
    tables = [("async", 60, 0.1, 40), ("threaded", 40, 0.1, 40), ("threaded", 41, 0.1, 40), ("blocking", 7, 0.5, 40)]
    tables += [(kind, 0, 0.1, 40) for kind in kinds]
    random = [
        (rng.choice(kinds), rng.randint(1, 500), rng.randint(1, 300) / 100, rng.randint(1, 64)) for _ in range(60)
    ]
    for kind, requests, seconds, threads in tables + random:
        call = f"burst_seconds({kind!r}, {requests}, {seconds:g}, threads={threads})"
        with calling(call, workspace, burst.waves_hint(kind, requests)):
            got = burst_seconds(kind, requests, seconds, threads)
        burst.must_be_waves(got, call, kind, requests, seconds, threads)
    for requests in (40, 41, 80):
        got = burst_seconds("threaded", requests, 0.5)
        burst.must_be_waves(got, f"burst_seconds('threaded', {requests}, 0.5)", "threaded", requests, 0.5, 40)
    try:
        got = burst_seconds("telepathy", 1, 0.1)
    except Exception as error:
        got = error
    assert isinstance(got, ValueError), Failure(
        f"burst_seconds('telepathy', 1, 0.1) gave {got!r}",
        wanted="a ValueError",
        hint="`raise ValueError(...)` for any kind other than these three.",
    )
    show.number("41 calls on 40 threads: two waves", 2)


@pytest.mark.checkpoint(
    "1.9",
    points=3,
    needs=["1.3", "1.4", "1.6"],
    deadline=120,
    hints=(
        "`create_app()` without arguments reads `Settings()`, and its model waits `settings.inference_seconds`.",
        "Try it by hand: `LAB_INFERENCE_SECONDS=1 uv run uvicorn --factory lab.service:create_app`.",
    ),
)
def test_on_a_real_server(serve, service, workspace, lab, rng, show):
    """A real server keeps the promise.

    A blocking endpoint cannot answer more than 1/seconds, whatever the machine: that is arithmetic, not measurement.
    The awaited one answers all its connections in the time of one.
    """
    from checks.support.ex1 import server as real

    seconds = round(rng.uniform(0.15, 0.2), 3)
    here = service(inference_seconds=0)  # what raises does so here first, where its line is seen
    show.at(workspace.where_defined(lab.service.create_app))
    assert here.get("/health").answer().status_code == 200, Failure(
        "GET /health does not answer", wanted="200: see 1.1"
    )
    for path in (real.AWAITED, real.BLOCKING):
        answers.prediction(here, here.post(path, {"features": [1.0]}).answer(), any_name=True)
    server = serve(inference_seconds=seconds)

    rounds = []

    def awaited_rate():
        rounds.append(real.burst(server, real.AWAITED, real.CONNECTIONS))
        return rounds[-1].throughput

    wanted = 4 / seconds
    with fair_clock() as clock:
        rate = best_of(awaited_rate, wanted)
    awaited, blocking = rounds[-1], real.burst(server, real.BLOCKING, real.FEW)
    for path, trace in ((real.AWAITED, awaited), (real.BLOCKING, blocking)):
        real.all_answered(path, trace, server, workspace)
    real.show_both(show, awaited, blocking, seconds)
    show.number(f"{rate * seconds:.0f} times a blocking one", rate * seconds)

    real.settings_reach_the_model(service, awaited, blocking, seconds)
    if rate < wanted:
        control = serve(app=CONTROL, inference_seconds=seconds)
        reached = blame_the_machine_unless(
            lambda: real.burst(control, real.AWAITED, real.CONNECTIONS).throughput,
            wanted,
            clock,
            "how many requests/s /predict answers",
        )
        here.post(real.AWAITED, {"features": [1.0]}).answer()
        raise AssertionError(
            Failure(
                f"/predict reached {rate:.1f} requests/s, the lab's own service {reached:.1f} in the same seconds",
                wanted=f"at least {wanted:.1f}, 4 times what blocking could reach",
                hint="Look for something that only one, or a few, requests can hold at a time before the model call.",
                where=workspace.where_defined(here.endpoint),
            )
        )
