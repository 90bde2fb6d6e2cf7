"""Exercise 1 - your first inference endpoint.

One model, asked in three ways: awaited, on a thread, and blocking the event loop. You build all three, then see what
each does to sixty callers at once. Write `lab/service.py` and `lab/model.py`, then predict it in `lab/predictions.py`.
"""

import asyncio
import inspect
import math
import os
import time
from statistics import fmean

import pytest

from checks.harness.assertions.answers import close, content, is_number, short, unrouted
from checks.harness.cell.probe import Probe
from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.virtual_time import TICK, virtual_time
from checks.harness.errors import LearnerError
from checks.harness.fixtures import CONTROL
from checks.harness.grading.noise import EARLY, best_of, blame_the_machine_unless
from checks.harness.report.evidence import timeline

CALLERS = 60  # more than the 40 threads of FastAPI's pool
CONNECTIONS = 32


@pytest.mark.checkpoint(
    "1.1",
    points=1,
    hints=(
        "`FastAPI(title=...)`, `app.include_router(router)`, `app.add_exception_handler(...)`, then return the app.",
    ),
)
def test_health(service, workspace, lab, show):
    """The service says who it is.

    A load balancer sends traffic only to processes whose health endpoint answers; with several workers behind one port,
    the pid tells which of them did.
    """
    app = service()
    show.at(workspace.where_defined(lab.service.create_app))
    health = app.get("/health").answer()
    assert health.status_code == 200, f"GET /health gave {health.status_code}{unrouted(health)}\nwanted: 200"
    show.at(workspace.where_defined(app.endpoint))
    said = content(health)
    assert said == said | {"status": "ok", "pid": os.getpid()}, (
        f"GET /health answered {health.text[:80]}\n"
        'wanted: {"status": "ok", "pid": ...} with the id of the process that answers\n'
        "try: Ask for it whenever you are asked: `os.getpid()`."
    )
    show.at(workspace.where_defined(lab.service.create_app))
    assert app.app.title not in ("", "FastAPI"), f"the app's title is {app.app.title!r}\nwanted: a title of its own"
    for page in ("/openapi.json", "/docs"):
        status = app.get(page).answer().status_code
        assert status == 200, f"GET {page} gave {status}\nwanted: FastAPI's own page of all routes"
    show.number(f"pid {os.getpid()}", os.getpid())


@pytest.mark.checkpoint(
    "1.2",
    points=2,
    hints=(
        "The handler is one line: await `model.predict(body.features)`, and return it in a `PredictResponse`. "
        "The model comes from `Depends(get_model)`: only so can this checkpoint put one of its own in its place.",
    ),
)
def test_predict_honours_its_contract(service, workspace, lab, rng, show):
    """/predict honours its contract.

    A model behind a service must be asked exactly once for each request, with what the caller sent, and its answer must
    arrive as it was given. What is no list of numbers must be refused at the door: a NaN that gets in comes out as a
    prediction that nobody can explain.
    """
    # The probe stands in for the model. Its answers cannot be guessed from the features.
    probe = Probe(held=False, seconds=0, answer=lambda _: rng.uniform(-1e6, 1e6))
    app = service(model=probe)
    questions = [features(rng) for _ in range(5)]
    for question in [*questions, questions[0], [1, 2]]:  # one question comes twice; an integer is a number, too
        before = len(probe.calls)
        answer = app.post("/predict", {"features": question}).answer()
        the_models_own(answer, question, probe.calls[before:])

    refused = ['["1"]', "[true]", "[null]", "[[1]]", "[NaN]", "[Infinity]", "[-Infinity]", "[]", '"1"', "null", "{}"]
    for bad in [*(f'{{"features": {value}}}' for value in refused), "{}", "[1]", "no JSON"]:
        before = len(probe.calls)
        show.at(workspace.where_defined(lab.service.create_app))
        try:
            answer = app.post("/predict", content=bad.encode()).answer()
        except LearnerError as error:
            refusal = f"{bad} was refused, but the refusal could not be written: {error}"
            raise AssertionError(
                f"{refusal}\nwanted: 422\n"
                "try: FastAPI's own 422 repeats the NaN that it refuses, and JSON has none: `app.add_exception_handler("
                "RequestValidationError, invalid_request)` puts the lab's in its place."
            ) from None
        show.at(workspace.where_defined(getattr(lab.service, "PredictRequest", app.endpoint)))
        assert answer.status_code == 422, (
            f"{bad} was answered with {answer.status_code}\n"
            "wanted: 422, since features are a list of one or more finite JSON numbers\n"
            'try: pydantic turns "2" and true into numbers unless a field is strict: `Annotated[float, Field('
            "strict=True, allow_inf_nan=False)]` is a finite JSON number, and `min_length=1` refuses an empty list."
        )
        assert len(probe.calls) == before, f"the model was asked about {bad}\nwanted: refused before the model"
    extra = app.post("/predict", {"features": [1.0], "unknown": "field"}).answer()
    assert extra.status_code < 500, f"a field nobody knows gave {extra.status_code}\nwanted: ignored, or a 422"

    model = lab.model.SimulatedModel(0)  # and now your own model
    for method in (model.predict, model.predict_blocking):
        show.at(workspace.where_defined(method))
        for question in questions:
            got, mean, name = method(question), fmean(question), method.__name__
            got = asyncio.run(got) if inspect.iscoroutine(got) else got
            assert is_number(got), f"{name} returned {got!r}\nwanted: a float"
            assert close(got, mean), f"{name} answered {got:.6g} to {short(question)}\nwanted: their mean, {mean:.6g}"
    show.number(f"{len(refused) + 3} bad bodies refused", len(refused) + 3)


@pytest.mark.checkpoint(
    "1.3",
    points=3,
    deadline=30,
    hints=(
        "`time.sleep` keeps the thread and everything that runs on it; `await asyncio.sleep` hands the thread back to "
        "the event loop until the time is over.",
        "The model holds nothing but its `seconds`: sixty calls of one model wait side by side.",
    ),
)
def test_the_model_waits(workspace, lab, rng, show):
    """The model waits, all calls side by side.

    While one call awaits its answer, a service can begin a thousand others; while one blocks, it can do nothing. This
    runs on a virtual clock, which jumps from timer to timer: what it reads is exact, however busy the machine is.
    """
    seconds = rng.uniform(0.02, 0.05)
    model = lab.model.SimulatedModel(seconds)
    show.at(workspace.where_defined(model.predict))

    async def waited(calls):
        """Seconds on the event loop's clock until all have ended."""
        clock = asyncio.get_running_loop()
        started = clock.time()
        ended, _ = await asyncio.wait([asyncio.ensure_future(call) for call in calls], timeout=1000)
        for call in ended:
            call.result()
        return clock.time() - started

    call = model.predict(features(rng))
    assert inspect.isawaitable(call), f"predict returned {call!r}\nwanted: something to await (`async def`)"
    SLEEPS.install()
    took = virtual_time(waited([call]))
    assert not SLEEPS.stacks, (
        "predict put the event loop's own thread to sleep (time.sleep)\n"
        f"wanted: {seconds:.3f} s awaited, in which the loop serves others"
    )
    why = "" if took else ": it awaited nothing that the loop can see (is `await` there?)"
    assert math.isclose(took, seconds, abs_tol=TICK), (
        f"one predict of SimulatedModel({seconds:.3f}) waited {took:.3f} s on the event loop's clock{why}\n"
        f"wanted: exactly {seconds:.3f} s, awaited\n"
        "try: `await asyncio.sleep(self.seconds)`."
    )

    took = virtual_time(waited([model.predict(features(rng)) for _ in range(CALLERS)]))
    show.number(f"{CALLERS} waits took as long as {took / seconds:.0f}", took / seconds)
    assert math.isclose(took, seconds, abs_tol=TICK), (
        f"{CALLERS} calls of one model took {took:.3f} s, as long as {took / seconds:.0f} one after the other\n"
        f"wanted: {seconds:.3f} s, since they all wait at the same time"
    )

    seconds = rng.uniform(0.11, 0.14)  # longer than the default of the settings
    model = lab.model.SimulatedModel(seconds)
    show.at(workspace.where_defined(model.predict_blocking))
    started = time.perf_counter()
    model.predict_blocking(features(rng))
    took = time.perf_counter() - started
    assert took >= seconds - EARLY, (
        f"predict_blocking of SimulatedModel({seconds:.3f}) took {took:.3f} s\n"
        f"wanted: at least {seconds:.3f} s of real time\n"
        "try: `time.sleep(self.seconds)`: here the wait is meant to keep the thread."
    )


@pytest.mark.checkpoint(
    "1.4",
    points=3,
    hints=(
        "Inside `async def`, everything that waits must be awaited: `await model.predict(...)`.",
        "An `async def` that calls something blocking holds the only thread that the event loop has.",
    ),
)
def test_predict_serves_everybody_at_once(service, workspace, rng, show):
    """/predict serves 60 callers at once.

    While one request awaits the model, the event loop can start all the others. One blocking call takes that away from
    everybody: each request then waits for all those before it, and p99 grows with every user. Nothing is timed here.
    The model holds its callers until all of them are inside, or until no more can come.
    """
    probe = Probe()
    app = service(model=probe)
    calls = ask(app, "/predict", rng, CALLERS)
    app.until(lambda: probe.inside == CALLERS or app.where_slept())
    together, slept = probe.inside, app.where_slept()
    probe.open()
    app.finish([*calls.values()], seconds=3)

    asked(probe, calls)
    first = probe.calls[0]
    show.number(f"{together} of {CALLERS} in the model together", together)
    show.picture(staircase(f"{CALLERS} requests to /predict", calls, probe))
    show.at(slept or workspace.where(*first.caller))
    assert not slept, (
        "the event loop's own thread was put to sleep (time.sleep), and with it every other request\n"
        "wanted: nothing but awaited waiting in an `async def`"
    )
    threads = len({call.thread for call in probe.calls})
    if first.blocking and first.on_loop:
        why = ": it calls predict_blocking on the event loop's own thread, which can serve nobody else meanwhile"
        hint = "Inside `async def`, everything that waits must be awaited: `await model.predict(...)`."
    elif threads > 1:
        why = ": it runs on threads, and there are no more of them"
        hint = "A plain `def` gets a thread of a pool of 40. An `async def` that awaits needs none."
    else:
        why = ": the others wait for something on their way, such as a lock"
        hint = "Look for what only one, or a few, can hold at a time."
    assert together == CALLERS, (
        f"{together} of {CALLERS} calls were in the model together{why}\nwanted: all {CALLERS}\ntry: {hint}"
    )
    assert threads == 1, f"{threads} threads stood in the model\nwanted: await model.predict, on the event loop's own"


@pytest.mark.checkpoint(
    "1.5",
    points=2,
    hints=(
        "Write it as a plain `def` and call `model.predict_blocking`: FastAPI itself moves it to its pool of threads.",
    ),
)
def test_threaded_is_limited_by_its_pool(service, workspace, lab, rng, show):
    """/predict/threaded: one for each thread.

    Blocking code on threads is no mistake, and often all there is (most model libraries block). But the pool has 40
    threads for the whole process: the 41st caller waits, however idle the machine is. What needs no thread goes on.
    """
    pool = lab.settings.Settings().thread_pool_size
    probe = Probe()
    app = service(model=probe)
    calls = ask(app, "/predict/threaded", rng, CALLERS)
    app.until(lambda: probe.inside == CALLERS)
    together = probe.inside
    show.at(workspace.where_defined(next(iter(calls.values())).endpoint or lab.service.create_app))
    health = app.get("/health")
    app.until(lambda: health.done)
    healthy, busy = health.done, app.pool_threads_in_use()
    probe.open()
    app.finish([*calls.values()], seconds=3)

    asked(probe, calls)
    first = probe.calls[0]
    show.number(f"{together} of {CALLERS} inside: the pool", together)
    show.picture(staircase(f"{CALLERS} requests to /predict/threaded", calls, probe))
    show.at(workspace.where(*first.caller))
    how = ", on the event loop's own thread" if first.on_loop else ", on threads of another pool" if not busy else ""
    assert together == pool, (
        f"{together} of {CALLERS} calls were in the model together{how}\n"
        f"wanted: {pool}, one for each thread of FastAPI's own pool"
    )
    assert first.blocking, "the threads called predict, which is to be awaited\nwanted: predict_blocking on each thread"
    assert busy == pool, f"{busy} of FastAPI's {pool} threads were in use\nwanted: its own pool, and no other"
    show.at(workspace.where_defined(health.endpoint))
    assert healthy, (
        "GET /health got no answer while all threads were taken\nwanted: an answer\n"
        "try: A plain `def` needs a thread of the same pool. `/health` waits for nothing: an `async def` needs none."
    )
    for question, call in calls.items():
        the_models_own(call.answer(), question, [c for c in probe.calls if c.features == question])


@pytest.mark.checkpoint(
    "1.6",
    points=2,
    hints=("`async def`, and in it `model.predict_blocking` without await or thread: here the mistake is wanted.",),
)
def test_blocking_stalls_everybody(service, workspace, lab, rng, show):
    """/predict/blocking stalls everybody.

    One blocking call in an `async def` stops the whole process, its health check included: a busy service then looks
    dead to its load balancer and is restarted in the middle of its work. Kept here on purpose, to be measured.
    """
    probe = Probe()
    app = service(model=probe)
    calls = ask(app, "/predict/blocking", rng, 8)
    app.until(lambda: probe.inside == len(calls))
    show.at(workspace.where_defined(next(iter(calls.values())).endpoint or lab.service.create_app))
    health = app.get("/health")
    app.until(lambda: health.done)
    healthy = health.done
    probe.open()
    app.finish([*calls.values(), health], seconds=5)

    asked(probe, calls)
    first = probe.calls[0]
    show.number(f"{probe.peak} of {len(calls)} at a time", probe.peak)
    show.picture(staircase(f"{len(calls)} requests to /predict/blocking", calls, probe))
    show.at(workspace.where(*first.caller))
    assert first.blocking, "the specimen awaits model.predict: it is cured\nwanted: predict_blocking in an `async def`"
    assert first.on_loop, (
        "predict_blocking ran on a thread of its own: the specimen is cured\nwanted: on the event loop's own thread"
    )
    assert probe.peak == 1, f"{probe.peak} calls were in the model together\nwanted: 1 at a time"
    assert not healthy, "GET /health was answered while the model was busy\nwanted: it waits behind the blocking call"
    for question, call in calls.items():
        the_models_own(call.answer(), question, [c for c in probe.calls if c.features == question])


@pytest.mark.checkpoint(
    "1.7",
    points=2,
    hints=("Keep what belongs to one request in local variables: not on the module, the app or the model.",),
)
def test_everybody_gets_their_own_answer(service, workspace, lab, rng, show):
    """Everybody gets their own answer.

    Between an `await` and the next line any other request may have run. What was put on a module, the app or the model
    by then belongs to somebody else: the fault that shows only under load, and hands one user's data to another.
    """
    probe = Probe()
    app = service(model=probe, inference_seconds=0.02)
    calls = ask(app, "/predict", rng, 50)

    def moved():
        return len(probe.calls), sum(call.done for call in calls.values())

    app.until(lambda: probe.inside == len(calls))
    if probe.inside == len(calls):  # where they cannot be inside together, 1.4 has told
        for call in rng.sample(probe.calls, 25):  # the last to come may be the first to go
            before = moved()
            probe.release(call)
            app.until(lambda before=before: moved() != before)
    probe.open()  # and the others all at once
    to_each_their_own(app, calls)

    app.app.dependency_overrides.clear()  # and now your own model
    show.at(workspace.where_defined(lab.model.SimulatedModel.predict))
    to_each_their_own(app, ask(app, "/predict", rng, 50))
    show.number(f"{len(calls)} callers, {len(calls)} own answers", len(calls))


@pytest.mark.checkpoint(
    "1.8",
    points=2,
    deadline=15,
    hints=(
        "How many can be in the model together? The burst goes through in waves of that many; how many waves?",
        "A last wave that is not full takes as long as a full one: round the number of waves up (`math.ceil`).",
    ),
)
def test_burst_seconds(workspace, lab, rng, show):
    """burst_seconds predicts a burst.

    Whoever can say beforehand what a service will do notices when it does something else. The arithmetic is short: the
    model's time, and how many go through together.
    """
    burst_seconds = lab.predictions.burst_seconds
    show.at(workspace.where_defined(burst_seconds))
    tables = [("async", 60, 0.1, 40), ("threaded", 40, 0.1, 40), ("threaded", 41, 0.1, 40), ("blocking", 7, 0.5, 40)]
    tables += [(kind, 0, 0.1, 40) for kind in ("async", "threaded", "blocking")]
    kinds = ["async", "threaded", "blocking"]
    random = [(rng.choice(kinds), rng.randint(1, 500), rng.uniform(0.01, 3), rng.randint(1, 64)) for _ in range(60)]
    for kind, requests, seconds, threads in tables + random:
        waves = {"async": min(requests, 1), "threaded": math.ceil(requests / threads), "blocking": requests}[kind]
        got = burst_seconds(kind, requests, seconds, threads)
        call = f"burst_seconds({kind!r}, {requests}, {seconds:.3g}, threads={threads})"
        assert is_number(got), f"{call} returned {got!r}\nwanted: a number of seconds"
        assert close(got, waves * seconds), (
            f"{call} is {got:.4g}\nwanted: {waves * seconds:.4g}, {waves} wave{'s' * (waves != 1)} of {seconds:.3g} s"
        )
    default = burst_seconds("threaded", requests=41, seconds=0.5)
    assert close(default, 1.0), f"burst_seconds('threaded', 41, 0.5) is {default!r}\nwanted: 1.0, with 40 threads"
    try:
        got = burst_seconds("telepathy", 1, 0.1)
    except Exception as error:
        got = error
    assert isinstance(got, ValueError), f"burst_seconds('telepathy', 1, 0.1) gave {got!r}\nwanted: a ValueError"
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
    from checks.harness.load.generator import closed_loop

    seconds = round(rng.uniform(0.15, 0.2), 3)
    here = service(inference_seconds=0)  # what raises does so here first, where its line is seen
    assert here.get("/health").answer().status_code == 200, "GET /health does not answer\nwanted: 200: see 1.1"
    for path in ("/predict", "/predict/blocking"):
        prediction(here.post(path, {"features": [1.0]}).answer())
    server = serve(inference_seconds=seconds)

    def burst(url, requests):
        body = b'{"features": [1.0, 2.0, 6.0]}'
        headers = [("content-type", "application/json")]
        return closed_loop(url, connections=requests, requests=requests, body=body, headers=headers, timeout=30)

    def awaited_rate():
        nonlocal awaited
        awaited = burst(f"{server.url}/predict", CONNECTIONS)
        return awaited.throughput

    awaited = None
    wanted = 4 / seconds
    rate = best_of(awaited_rate, wanted)
    few = 4  # enough to see it: 32 would take 32 times as long as one
    blocking = burst(f"{server.url}/predict/blocking", few)

    for trace, path in ((awaited, "/predict"), (blocking, "/predict/blocking")):
        failed = [r.error or f"status {r.status}" for r in trace.requests if not r.ok]
        assert not failed, f"{len(failed)} of {len(trace.requests)} calls of {path}: {failed[0]}\nwanted: 200 for all"
    predicted = {"/predict": seconds, "/predict/blocking": few * seconds}
    rows = []
    for path, trace in (("/predict", awaited), ("/predict/blocking", blocking)):
        last = max(trace.latencies())
        ended = sorted(trace.requests, key=lambda r: r.finished)[:: len(trace.requests) // few]
        title = f"{len(ended)} of {len(trace.requests)} requests to {path}"
        show.picture(timeline([("", r.sent, r.finished - seconds, r.finished) for r in ended], title))
        rows.append((path, len(trace.requests), f"{predicted[path]:.2f}", f"{last:.2f}", f"{trace.throughput:.1f}"))
    columns = ("one model call: " + f"{seconds} s", "requests", "predicted s", "measured s", "requests/s")
    show.table("prediction beside measurement", columns, rows)
    show.number(f"{rate * seconds:.0f} times a blocking one", rate * seconds)

    show.at(workspace.where_defined(lab.service.create_app))
    fastest = min(awaited.latencies())
    assert fastest >= seconds - EARLY, (
        f"with LAB_INFERENCE_SECONDS={seconds} a request to /predict was answered after {fastest:.3f} s\n"
        f"wanted: never before {seconds} s: the setting must reach the model"
    )
    app = service(inference_seconds=3600)
    call = app.post("/predict", {"features": [1.0]})
    app.until(lambda: call.done)
    assert not call.done, (
        "an app of create_app(Settings(inference_seconds=3600)) has answered /predict already\n"
        "wanted: an hour's wait: the settings that it is given must reach the model, too"
    )
    elapsed = max(blocking.latencies())
    assert elapsed >= few * (seconds - EARLY), (
        f"{few} requests to /predict/blocking took {elapsed:.2f} s\n"
        f"wanted: at least {few} x {seconds} s: one after the other"
    )
    if rate < wanted:
        control = serve(app=CONTROL, inference_seconds=seconds)
        reached = blame_the_machine_unless(lambda: burst(f"{control.url}/predict", CONNECTIONS).throughput, wanted)
    assert rate >= wanted, (
        f"/predict reached {rate:.1f} requests/s, the lab's own service {reached:.1f} in the same seconds\n"
        f"wanted: at least {wanted:.1f}, 4 times what blocking could reach"
    )


def features(rng):
    """A random question, unlike any other."""
    return [rng.uniform(-100, 100) for _ in range(rng.randint(2, 8))]


def prediction(answer):
    """The number in `{"prediction": ...}`."""
    path, status, said = answer.url.path, answer.status_code, answer.text[:60]
    assert status == 200, f"{path} gave {status}{unrouted(answer) or f': {said}'}\nwanted: 200"
    number = content(answer).get("prediction")
    assert is_number(number), f"{path} answered {said}\nwanted: {{'prediction': a number}}"
    return number


def the_models_own(answer, question, asked):
    """The answer to a question is what the model said to it, `asked` once."""
    got = prediction(answer)
    were_made(asked)
    assert len(asked) == 1, f"the model was asked {len(asked)} times about one request\nwanted: exactly once"
    given, said = asked[0].features, asked[0].answer
    assert given == tuple(question), f"the model was given {short(given)}\nwanted: what was sent: {short(question)}"
    assert close(got, said), f"the model said {said!r}, the caller got {got!r}\nwanted: the model's own answer"


def to_each_their_own(app, calls):
    """Nobody in company got what they would not have got alone."""
    answers = {question: prediction(call.answer()) for question, call in calls.items()}
    for question, got in answers.items():
        if not close(got, fmean(question)):  # a wrong answer, but whose? 1.2 judges what is wrong for those alone, too
            alone = prediction(app.post("/predict", {"features": question}).answer())
            others = any(close(got, fmean(other)) for other in answers)
            whose = ", the answer to another caller's question" if others else ""
            assert close(got, alone), f"a caller got {got!r}{whose}\nwanted: {alone!r}, as when they ask alone"
    assert len({*answers.values()}) > 1, f"{len(answers)} different questions got one answer\nwanted: each their own"


def ask(app, path, rng, number):
    """So many requests that go out together: each question with its call."""
    questions = [features(rng) for _ in range(number)]
    return {tuple(question): app.post(path, {"features": question}) for question in questions}


def were_made(model_calls):
    """The model was asked."""
    assert model_calls, (
        "the model was never asked\nwanted: the route takes its model from Depends(get_model), and asks it"
    )


def asked(probe, calls):
    """Go on only if the model was asked at all; if it was not, the first answer tells why."""
    if not probe.calls:
        prediction(next(iter(calls.values())).answer())
    were_made(probe.calls)


def staircase(title, calls, probe):
    """The picture of requests that wait for the model and work in it, in the order in which they got there."""
    now = time.perf_counter()
    sent = sorted(call.sent for call in calls.values())
    inside = sorted(probe.calls, key=lambda call: call.entered)
    rows = [("", s, call.entered, call.left or now) for s, call in zip(sent, inside, strict=False)]
    rows += [("", s, now, now) for s in sent[len(rows) :]]
    return timeline(rows, title, note="where the lab held them")
