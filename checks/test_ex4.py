"""Exercise 4 - tuning for throughput.

A service has three knobs: workers, threads and connections. You predict what each of them gives, then turn it. What no
knob can serve has to be refused, or everybody waits too long. Begin with `lab/predictions.py`.
"""

import asyncio
import math
import re
import time
from collections import Counter
from fractions import Fraction
from statistics import fmean

import pytest

from checks.harness.apps.feature_store import store_that_is_full
from checks.harness.assertions.answers import close, content, is_number, unrouted
from checks.harness.cell.probe import Probe
from checks.harness.errors import BrokenOff, Inconclusive, ServerDied
from checks.harness.fixtures import KINDS, OVERLOADED, OVERLOADED_CONTROL
from checks.harness.grading.noise import EARLY, best_of, blame_the_machine_unless
from checks.harness.processes.servers import free_port, just_one_process
from checks.harness.report.evidence import Table, timeline

SOON = 10
"""Times as long as it should take, after which something hangs: the only upper bound on real time."""


@pytest.mark.checkpoint(
    "4.1",
    points=2,
    deadline=15,
    hints=(
        "How many requests can be in the model together? Each of those places serves 1 / seconds requests a second.",
        "Little's law: busy threads = rate x seconds. Take the float noise off (`round(..., 9)`) before `math.ceil`.",
    ),
)
def test_predictions(workspace, lab, rng, show):
    """Capacity is arithmetic.

    Who has not predicted a number cannot be surprised by it. Capacity is places divided by service time; how many
    places a rate needs is Little's law (1961), the most useful line of arithmetic in this trade.
    """
    predict, needed = lab.predictions.max_throughput, lab.predictions.threads_needed
    show.at(workspace.where_defined(predict))
    for _ in range(60):
        workers, threads, seconds = rng.randint(1, 16), rng.randint(1, 100), rng.randint(1, 3000) / 1000
        places = {"async": math.inf, "threaded": workers * threads, "blocking": workers}
        kind = rng.choice([*places])
        got = predict(kind, workers, seconds, threads)
        call = f"max_throughput({kind!r}, workers={workers}, seconds={seconds}, threads={threads})"
        assert is_number(got), f"{call} returned {got!r}\nwanted: a number of requests/s"
        wanted = places[kind] / seconds
        assert got == wanted or close(got, wanted), (
            f"{call} is {got:.6g}\nwanted: {wanted:.6g}: {places[kind]} together, each of which takes {seconds} s"
        )
    default = predict("threaded", workers=2, seconds=0.5)
    assert close(default, 160), (
        f"max_throughput('threaded', 2, 0.5) is {default!r}\nwanted: 160.0, with 40 threads each"
    )
    try:
        got = predict("telepathy", 1, 0.1)
    except Exception as error:
        got = error
    assert isinstance(got, ValueError), (
        f"max_throughput('telepathy', 1, 0.1) gave {got!r}\nwanted: a ValueError that names the kinds\n"
        "try: Look at `burst_seconds`, which does so."
    )

    show.at(workspace.where_defined(needed))
    cases = [(100, 0.07), (0, 1.0), (1000, 0.041), (1, 0.001)]
    cases += [(rng.randint(1, 1000), rng.randint(1, 1000) / 1000) for _ in range(200)]
    for rate, seconds in cases:
        busy = rate * Fraction(str(seconds))  # exact: in floats 100 * 0.07 is more than 7
        got = needed(rate, seconds)
        assert type(got) is int, f"threads_needed({rate}, {seconds}) returned {got!r}\nwanted: a whole number, an int"
        assert got == math.ceil(busy), (
            f"threads_needed({rate}, {seconds}) is {got}\n"
            f"wanted: {math.ceil(busy)}: {float(busy):g} are busy on average, and nobody has a part of a thread\n"
            + (
                f"try: In floats {rate} * {seconds} is {rate * seconds!r}: `round(..., 9)` before `math.ceil`."
                if got == math.ceil(rate * seconds)
                else "try: Little's law: rate x seconds threads are busy; round that up."
            )
        )
    show.number("100/s of 70 ms keep 7 threads busy", 7)


@pytest.mark.checkpoint(
    "4.2",
    points=3,
    deadline=180,
    hints=(
        '`uvicorn.run("lab.service:create_app", factory=True, host=..., port=..., workers=...)`: with more than one '
        "worker uvicorn wants the app's name, because each of them imports it anew.",
        'The environment holds text: `int(os.environ.get("PORT", "8000"))`.',
        "Try it by hand: `PORT=8080 WEB_CONCURRENCY=4 uv run python -m lab.serve`.",
    ),
)
def test_workers(serve, launch, service, workspace, lab, rng, show):
    """Workers multiply what blocks.

    A worker is a process with an event loop of its own. Blocking code gains by each of them, waiting code by none, and
    code that computes by as many as there are cores; all of them are paid for in memory. How many there are is the
    business of who runs the service: it comes from the environment.
    """
    from checks.harness.processes.workers import all_pids, pids_beside, rate, spread

    seconds, each, workers = round(rng.uniform(0.09, 0.11), 3), 8, 4
    here = service(inference_seconds=0)  # what raises does so here first, where its line is seen
    assert here.get("/health").answer().status_code == 200, "GET /health does not answer\nwanted: 200: see 1.1"
    show.at(workspace.where_defined(lab.serve.main))
    port, alone = on_a_free_port(launch)
    assert alone.port == port, f"with PORT={port} it listens on {alone.port}\nwanted: the port that it is told"
    server = launch(HOST="localhost", PORT="0", WEB_CONCURRENCY=str(workers), LAB_INFERENCE_SECONDS=str(seconds))
    host = re.search(r"running on \w+://(\S+):\d+", server.output())  # a quiet one does not say
    assert not host or host[1] == "localhost", (
        f"with HOST=localhost it listens on {host[1]}\nwanted: the host that it is told"
    )
    found = len(all_pids(server.url, workers, 0 if just_one_process(server.output()) else 45))
    assert found == workers, f"with WEB_CONCURRENCY={workers} {found} answered\nwanted: {workers} different pids"
    rounds = 1 if just_one_process(alone.output()) else 12  # only now: it has had as long to start more of them
    found = len(pids_beside(alone.url, "/predict/blocking", rounds))
    assert found == 1, f"without WEB_CONCURRENCY {found} workers answer\nwanted: 1"

    def blocking(url, at_least):
        with spread(url, workers, each * workers) as connections:
            return best_of(lambda: rate(connections, "/predict/blocking", 2), at_least)

    wanted = 2.2 / seconds  # one worker cannot exceed 1 / seconds: that is arithmetic
    reached = blocking(server.url, wanted)
    show.number(f"4 workers: {reached * seconds:.1f} times one", reached * seconds)
    worker_picture(serve, show)
    show.at(workspace.where_defined(lab.service.predict_blocking))
    if reached < wanted:
        control = serve(app=KINDS, workers=workers, inference_seconds=seconds)
        own = blame_the_machine_unless(lambda: blocking(control.url, wanted), wanted, rounds=1)
    assert reached >= wanted, (
        f"4 workers gave /predict/blocking {reached:.1f} requests/s, the lab's own service {own:.1f}\n"
        f"wanted: at least {wanted:.1f}, 2.2 times what one worker can give"
    )


@pytest.mark.checkpoint(
    "4.3",
    points=2,
    hints=(
        "In `lifespan`, before the `yield`: `current_default_thread_limiter().total_tokens = ...`, which is in "
        "`anyio.to_thread`. And the app is made with `FastAPI(..., lifespan=lifespan)`.",
        "The limiter belongs to an event loop. At import, and in create_app, there is none yet.",
    ),
)
def test_thread_pool_size(service, workspace, lab, rng, show):
    """The pool has as many threads as asked.

    40 is a default, not a property of your model. With threads_needed you know how many your target takes; a thread
    that waits costs little, one too few costs a queue.
    """
    rows = []
    for size in (rng.randint(60, 80), rng.randint(5, 20)):
        probe = Probe()
        app = service(model=probe, thread_pool_size=size)
        calls = ask(app, "/predict/threaded", rng, size + 20)
        app.until(lambda calls=calls, probe=probe: probe.inside == len(calls))
        together = probe.inside
        probe.open()
        app.finish([*calls.values()], seconds=5)
        asked(probe, calls)
        rows.append((size, len(calls), together))
        show.at(workspace.where_defined(getattr(lab.service, "lifespan", lab.service.create_app)))
        if together != size:
            begun(lab.service)
        assert together == size, (
            f"with thread_pool_size={size} {together} of {len(calls)} calls were in the model together\n"
            f"wanted: {size}\n"
            + (
                "try: 40 is anyio's default: your number did not reach it. Is the app made with "
                "`FastAPI(..., lifespan=lifespan)`? Is it set before the `yield`, from `app.state.settings`?"
                if together == 40
                else "try: Set it when the app starts, in its lifespan: every event loop has a limiter of its own."
            )
        )
    show.table("/predict/threaded", ("thread_pool_size", "calls", "in the model together"), rows)
    show.number(f"{rows[0][0]} threads: {rows[0][2]} inside", rows[0][2])


@pytest.mark.checkpoint(
    "4.4",
    points=4,
    deadline=120,
    hints=(
        "One `httpx.AsyncClient` for the life of the service, with `limits=httpx.Limits(max_connections=...)`; "
        "`async with open_feature_store(settings) as store:` in the lifespan opens it and closes it.",
        "`httpx.Timeout(seconds, pool=None)`: connecting and reading have a limit, waiting for our own pool has none.",
        "`httpx.TimeoutException` is a 504, any other `httpx.HTTPError` a 502. Check the answer before you believe it.",
    ),
)
def test_feature_store(feature_store, service, workspace, lab, rng, show):
    """A pool of connections, used again.

    A connection per request costs a handshake each, and under load as many sockets as there are requests: the store is
    overrun by its own clients. A pool sets a limit, and its queue is ours. Whatever the store does wrong, our callers
    learn whose fault it was.
    """
    users = rng.sample(range(1, 10**6), 160)
    feature_store.users = {user: [rng.uniform(-100, 100), rng.randint(-100, 100)] for user in users}
    pool, probe = rng.randint(3, 5), Probe(held=False, seconds=0)
    settings = {"feature_store_url": feature_store.url, "feature_store_connections": pool}
    app = service(model=probe, feature_store_seconds=1, **settings)
    app.progress = lambda: (len(probe.calls), len(feature_store.asked), feature_store.sent)
    show.at(workspace.where_defined(lab.feature_store.open_feature_store))
    feature_store.seconds, calls = 0.1, {}
    for number, user in enumerate(users):
        calls[user] = app.post("/predict/enriched", {"user_id": user})
        if number % 20 == 0:  # a client for each request takes long to make: the event loop gets its turns in between
            app.until(lambda user=user: calls[user].scope or calls[user].done)
    waiting = max(1, len(users) - len(feature_store.asked))
    feature_store.seconds = min(0.1, 1.5 * pool / waiting)  # the last wait 1.5 s for a connection, nobody 1 s to read
    app.until(lambda: all(call.done for call in calls.values()))
    accepted = feature_store.accepted
    show.number(f"{len(users)} calls, {accepted} connections", accepted)
    answers = {user: call.answer() for user, call in calls.items()}
    broken_off = sum(answer.status_code != 200 for answer in answers.values())
    if accepted <= pool + broken_off:  # each of those may have cost a connection, but the connections are not the cause
        everybody_got(answers, feature_store.users)
    assert accepted <= pool, (
        f"{len(users)} calls opened {accepted} connections to the store\n"
        f"wanted: at most {pool}, feature_store_connections, used again and again\n"
        "try: Is there one client, made once, that all calls use? Does it keep its connections, as many as it may have?"
    )
    waiting_for_our_own(app, feature_store, rng.sample(users, 2 * pool), pool)

    feature_store.seconds = 0
    troubled = service(model=probe, feature_store_seconds=0.4, **settings)
    callers_fault(troubled)
    show.at(workspace.where_defined(lab.feature_store.fetch_features))
    stores_fault(troubled, feature_store, rng)
    nobody = f"http://127.0.0.1:{free_port()}"
    alone = service(model=probe, feature_store_seconds=1, feature_store_url=nobody)
    enriched(alone, 1, 502, "of a store that is down")
    with store_that_is_full() as url:
        far = service(model=probe, feature_store_seconds=0.4, feature_store_url=url or nobody)
        # Where the system refuses such connections it is one more that is down.
        enriched(far, 1, 504 if url else 502, "of a store that nobody can connect to")

    show.at(workspace.where_defined(lab.feature_store.open_feature_store))
    for one in (app, troubled, alone, far):
        one.stop()
    deadline = time.monotonic() + 5
    while feature_store.open and time.monotonic() < deadline:
        time.sleep(0.02)
    assert feature_store.open == 0, (
        f"{feature_store.open} connections to the store are still open when the service has ended\nwanted: all closed\n"
        "try: `async with httpx.AsyncClient(...) as store: yield store` closes them when the lifespan ends."
    )


@pytest.mark.checkpoint(
    "4.5",
    points=5,
    hints=(
        "Count what is in the app; what finds no slot waits for a Future of its own in a `collections.deque`. Whoever "
        "leaves pops the first of them and hands the slot over, without making it free in between.",
        "`try: await self.app(...)`, and give the slot back in `finally:`: exceptions and cancellations pass there.",
        "A waiter that is cancelled has to leave the queue: `except asyncio.CancelledError`, tidy up, `raise`.",
        "`app.add_middleware(AdmissionControl, ...)` comes before the TimingMiddleware's: the last added is outermost.",
    ),
)
def test_admission(service, workspace, lab, rng, show):
    """So many inside, so many waiting, no more.

    A queue without an end does not lose anybody, it makes everybody late. So a service takes on what it can serve soon,
    in the order of arrival, and tells the others at once: a caller who knows can go elsewhere, or come again. A slot
    that gets lost on the way, by a crash or by a caller who left, never comes back: after some days nothing is served.
    """
    control(lab)
    show.at(workspace.where_defined(lab.admission.AdmissionControl))
    slots, places = rng.sample(range(2, 6), 2)  # never the same: who takes one for the other is seen
    probe = Probe()
    app = service(model=probe, max_in_flight=slots, max_queue=places)
    with app.causes_first():
        picture = in_order(app, lab, probe, workspace, rng, slots, places, show)
    without_a_queue(service, rng)
    others_pass(lab)
    ends = walk(lab, rng, show)
    show.picture(picture)
    show.number(f"{slots} inside, {places} waiting; {ends} steps", slots)


@pytest.mark.checkpoint(
    "4.6",
    points=3,
    hints=(
        "The time belongs to the waiting alone: `loop.call_later(queue_seconds, ...)` ends the wait, and is cancelled "
        "when the slot comes.",
        "Who gave up must not be in the queue any more when a slot is handed out.",
    ),
)
def test_waiting_has_an_end(service, workspace, lab, rng, show):
    """Nobody waits in vain.

    A caller who has waited a second has often gone, and asked again. Work for those who left is the worst kind of load:
    it takes slots from those who are still there, and so makes them leave, too. Work that has begun is another matter:
    cut off, all that was spent on it is lost.
    """
    control(lab)
    show.at(workspace.where_defined(lab.admission.AdmissionControl))
    (slots, places), seconds = rng.sample(range(2, 5), 2), round(rng.uniform(0.3, 0.4), 2)
    probe = Probe()
    app = service(model=probe, max_in_flight=slots, max_queue=places, queue_seconds=seconds)
    with app.causes_first():
        waits = patient(app, service, probe, rng, slots, places, seconds)
    show.table(
        f"{slots} slots held, queue_seconds={seconds}",
        ("waited in vain", "least s", "most s"),
        [(len(waits), f"{min(waits):.2f}", f"{max(waits):.2f}")],
    )
    show.number(f"refused after {min(waits):.2f} s or more", min(waits))
    the_time_runs_from_arrival(service, rng)


@pytest.mark.checkpoint(
    "4.7",
    points=4,
    deadline=180,
    hints=(
        "In an overload a service with S slots and S places to wait keeps all slots busy, and nobody waits longer than "
        "two service times. What is refused costs nearly nothing: no handler, no body, no waiting.",
        "Refuse before any work is done, and let a refused request hold nothing: no slot, no place, no count.",
    ),
)
def test_overload(serve, service, workspace, lab, rng, show):
    """Twice the load, and goodput stays.

    Goodput counts only answers that come in time. Without a limit the queue grows for as long as the overload lasts,
    and soon every answer is too late: the service works at full throughput, and is of no use to anybody.
    """
    from checks.harness.assertions import overload

    control(lab)
    show.at(workspace.where_defined(lab.admission.AdmissionControl))
    slots, seconds = rng.randint(3, 4), round(rng.uniform(0.09, 0.11), 3)
    first_in_here(service, rng)
    model = {"slots": slots, "slot_seconds": seconds}
    limits = {"max_in_flight": slots, "max_queue": slots, "queue_seconds": 1}
    guarded, unbounded = serve(app=OVERLOADED, **model, **limits), serve(app=OVERLOADED, **model)
    loads = {}

    def storm(times, lasting, *urls):
        told = {"slots": slots, "seconds": seconds, "times": times, "lasting": lasting, "seed": rng.randrange(10**6)}
        return overload.overload(urls, **told)

    def score():
        """1 where goodput and refusals are as wanted, less where one of them is not."""
        loads[2] = storm(2, 3, guarded.url, unbounded.url)
        overload.calm_down(unbounded.url)
        return overload_score(loads[2][0])

    for times in (0.5, 1, 3):
        loads[times] = storm(times, 1, guarded.url, unbounded.url)
        overload.calm_down(unbounded.url)
    reached = best_of(score, 1)
    show.picture(overload_picture(loads))
    twice = loads[2][0]
    show.number(f"goodput {twice.goodput / twice.capacity:.2f} of capacity at 2x", twice.goodput / twice.capacity)
    assert not twice.others, f"{len(twice.others)} requests ended otherwise: {twice.others[0]}\nwanted: 200 or 503"
    if reached < 1:
        own = serve(app=OVERLOADED_CONTROL, **model)

        def own_score():
            """What the lab's own service reaches beside the same load on the one without a limit."""
            load = storm(2, 3, own.url, unbounded.url)[0]
            overload.calm_down(unbounded.url)
            return overload_score(load)

        blame_the_machine_unless(own_score, 1)
    what = f"at twice the capacity of {twice.capacity:.0f}/s"
    assert twice.goodput >= 0.7 * twice.capacity, (
        f"{what} goodput is {twice.goodput:.1f}/s, {len(twice.refusals)} of {len(twice.trace.requests)} were refused\n"
        f"wanted: at least 0.7 of the capacity, answered within {overload.IN_TIME} service times of when it was due"
    )
    assert twice.refused_in < seconds, (
        f"{what} a refusal took {twice.refused_in:.3f} s in the median\n"
        f"wanted: less than one service time, {seconds} s: who is refused should know at once"
    )
    after = overload.one_more(guarded.url)
    assert not after, f"a request after the storm: {after}\nwanted: 200: all slots are free again"


@pytest.mark.checkpoint(
    "4.8",
    points=2,
    deadline=15,
    hints=(
        "Two steps: leave out whatever breaks the SLO, then take the most goodput of the rest.",
        "`min(..., key=lambda m: (-m.goodput, m.workers, m.threads), default=None)` decides between equals, too.",
    ),
)
def test_choose(workspace, lab, rng, show):
    """The best configuration keeps the SLO.

    The fastest table row is often the one that nobody can live with: most requests/s at a p95 of seconds. And of two
    that serve alike the smaller one wins: each worker is a copy of the model in memory.
    """
    from lab.records import Measurement

    choose = lab.tuning.choose
    show.at(workspace.where_defined(choose))

    def told(
        table, slo, wanted, why, hint="Leave out whatever breaks the SLO, then take the most goodput of the rest."
    ):
        rows = rng.sample(table, len(table))
        got = choose(list(rows), slo)
        if got != wanted:
            columns = ("workers", "threads", "offered", "goodput", "p95 ms")
            cells = [(m.workers, m.threads, *(f"{x:.0f}" for x in (m.offered, m.goodput, m.p95_ms))) for m in rows]
            show.table(f"measured, SLO {slo} ms", columns, cells)
        chose = "None" if got is None else f"{got}"
        assert got == wanted, f"of {len(rows)} measurements it chose {chose}\nwanted: {wanted}: {why}\ntry: {hint}"

    slo = rng.randint(100, 300)
    ties = "`key=lambda m: (-m.goodput, m.workers, m.threads)` with `min` decides between equals, too."
    for _ in range(20):
        base = float(rng.randrange(50, 500, 10))
        best = Measurement(4, 40, base * 2, base, float(rng.randint(slo * 7 // 10, slo - 1)))
        fast = Measurement(8, 80, base * 4, base * 1.5, float(rng.randint(slo + 1, 3 * slo)))
        calm = Measurement(1, 40, base / 2, base / 2, slo / 10)
        busy = Measurement(2, 40, base * 9, round(base * 0.9, 1), round(slo * 0.9, 1))
        told([best, fast, calm, busy], slo, best, "the most goodput of those whose p95 keeps the SLO")
        more = Measurement(5, 10, base * 2, base, slo / 4)
        told([best, fast, more], slo, best, "of equal goodput the fewest workers", ties)
        wide = Measurement(4, 64, base * 2, base, slo / 4)
        told([best, wide, fast], slo, best, "of equal goodput and workers the fewest threads", ties)
        told([fast], slo, None, "none of them keeps the SLO")
    edge = Measurement(1, 40, 10.0, 9.0, float(slo))
    told([edge], slo, edge, "a p95 equal to the SLO keeps it")
    told([], slo, None, "there is nothing to choose from")
    show.number("most goodput within the SLO", 1)


# -- what a service is asked, and what comes back ---------------------------------------------------------------------


def ask(app, path, rng, number):
    """So many requests that go out together: each question with its call."""
    questions = [[rng.uniform(-100, 100) for _ in range(rng.randint(2, 8))] for _ in range(number)]
    return {tuple(question): app.post(path, {"features": question}) for question in questions}


def line_up(app, rng, number):
    """So many requests to /predict, each sent when the one before it has arrived at the app."""
    calls = {}
    for _ in range(number):
        calls |= (one := ask(app, "/predict", rng, 1))
        app.go_on_until(lambda one=one: all(call.scope or call.done for call in one.values()))
    return calls


def nobody_crashed(calls):
    """Go on only if none of them has ended in an exception: it is raised here."""
    for call in calls.values():
        if call.done:
            call.answer()


def asked(probe, calls):
    """Go on only if the model was asked at all; if it was not, the first answer tells why."""
    if not probe.calls:
        answer = next(iter(calls.values())).answer()
        said = f"{answer.status_code}{unrouted(answer) or f': {answer.text[:60]}'}"
        pytest.fail(f"{answer.url.path} gave {said}, and the model was never asked\nwanted: 200")


def begun(module):
    """Go on only if the lifespan is more than a stub."""
    from fastapi import FastAPI

    async def enter():
        async with module.lifespan(FastAPI()):
            pass

    try:
        if hasattr(module, "lifespan"):
            asyncio.run(enter())
    except NotImplementedError:
        raise
    except Exception:  # a lifespan that wants more than an empty app is no stub
        return


def control(lab):
    """Go on only if the admission control is more than a stub."""
    return lab.admission.AdmissionControl(None, max_in_flight=1, max_queue=1, queue_seconds=1.0)


# -- 4.2 --------------------------------------------------------------------------------------------------------------


def on_a_free_port(launch):
    """A service that was told its port, and that port; another one where somebody else was quicker to take it."""
    for _ in range(3):
        port, died = free_port(), None
        try:
            return port, launch(PORT=str(port), LAB_INFERENCE_SECONDS="0.5")
        except ServerDied as error:
            died = error
        if "address already in use" not in died.output:
            raise died
        assert str(port) in died.output, f"with PORT={port} it wants another port\nwanted: the one that it is told"
    raise Inconclusive("no port stayed free for a second")


def worker_picture(serve, show):
    """What one, two and four workers give to the lab's own service: blocking, awaited, computing."""
    from checks.harness.processes.workers import rate, spread

    seconds, connections, rows = 0.02, 16, []
    for workers in (1, 2, 4):
        server = serve(app=KINDS, workers=workers, inference_seconds=seconds)
        with spread(server.url, workers, connections) as held:
            rates = [rate(held, path, each) for path, each in (("/predict/blocking", 1), ("/predict", 2), ("/burn", 1))]
        rows.append((workers, *(f"{value:.0f}" for value in rates)))
    columns = ("workers", "blocking, 20 ms", "awaited, 20 ms", "computing, 10 ms")
    show.table(f"requests/s of the lab's own service over {connections} connections", columns, rows)


# -- 4.4 --------------------------------------------------------------------------------------------------------------


def everybody_got(answers, features):
    """Each caller got the prediction of the features that the store holds of their user."""
    statuses = Counter(answer.status_code for answer in answers.values())
    said = next((f": {a.text[:60]}{unrouted(a)}" for a in answers.values() if a.status_code != 200), "")
    assert set(statuses) == {200}, (
        f"{len(answers)} callers at once got {dict(statuses)}{said}\n"
        "wanted: 200 for all: who waits for a connection of our own pool waits, and that is no error"
    )
    for user, answer in answers.items():
        got = content(answer).get("prediction")
        assert is_number(got), f"/predict/enriched answered {answer.text[:60]}\nwanted: {{'prediction': a number}}"
        assert close(got, fmean(features[user])), (
            f"a user whose prediction is {fmean(features[user])!r} got {got!r}\n"
            "wanted: the model's answer to the features of that user"
        )


def waiting_for_our_own(app, store, users, pool):
    """Who waits for a connection waits as long as it takes, also where the store keeps all of them busy for long.

    The store answers in parts: each read is well within feature_store_seconds=1, all of them together are not.
    """
    before = len(store.asked)
    store.seconds, store.parts = 0.15, 10
    calls = {user: app.post("/predict/enriched", {"user_id": user}) for user in users}
    app.until(lambda: len(store.asked) - before >= pool or all(call.done for call in calls.values()))
    store.seconds, store.parts = 0, 1  # from here on it is quick: those who waited are served at once
    app.until(lambda: all(call.done for call in calls.values()))
    statuses = {user: call.answer().status_code for user, call in calls.items()}
    if set(statuses.values()) != {200}:
        blame_the_machine_unless(lambda: reads_in_parts(store, users[0]), 1)
    began = {path.rpartition("/")[2] for path in store.asked[before:]}
    never = [status for user, status in statuses.items() if status != 200 and str(user) not in began]
    assert not never, (
        f"{len(never)} of {len(users)} callers who waited for one of our {pool} connections got {never[0]}\n"
        "wanted: 200: waiting for a connection of our own pool is no error, however long it takes\n"
        "try: `httpx.Timeout(seconds, pool=None)`: a plain number limits the wait for the pool, too."
    )
    others = {*statuses.values()} - {200}
    assert not others, (
        f"of an answer whose parts came every 0.15 s, 1.5 s in all, callers hear {sorted(others)}\n"
        "wanted: 200: connecting may take feature_store_seconds=1, and so may each read, as httpx counts them"
    )


def reads_in_parts(store, user):
    """1 if the lab's own client gets such an answer, 0 if a part of it takes too long."""
    import httpx

    store.seconds, store.parts = 0.15, 10
    try:
        httpx.get(f"{store.url}/features/{user}", timeout=1, trust_env=False)
    except httpx.TimeoutException:
        return 0
    finally:
        store.seconds, store.parts = 0, 1
    return 1


def enriched(app, user, wanted, what):
    """Ask for the prediction of a user, and see that our caller hears what is wanted: the call."""
    call = app.post("/predict/enriched", {"user_id": user})
    app.until(lambda: call.done, horizon=30)
    if not call.done:
        pytest.fail(f"{what} our caller hears nothing: nobody gave up\nwanted: {wanted} after feature_store_seconds")
    with app.told_with(f"{what}, ", f"wanted: {wanted}"):
        status = call.answer().status_code
    assert status == wanted, (
        f"{what} our caller hears {status}\nwanted: {wanted}\n"
        "try: 404 for a user whom the store does not know, 504 for httpx.TimeoutException, 502 for all other trouble."
    )
    return call


def callers_fault(app):
    """What is no user id is refused at the door."""
    bodies = ["{}", '{"user_id": null}', '{"user_id": "seven"}', '{"user_id": 1.5}', '{"user_id": [7]}', "no JSON"]
    for body in [*bodies, '{"user_id": "7"}', '{"user_id": true}']:
        status = app.post("/predict/enriched", content=body.encode()).answer().status_code
        assert status == 422, (
            f"/predict/enriched answered {body} with {status}\nwanted: 422\n"
            "try: `Field(strict=True)` takes integers only: text and true are none."
        )


def stores_fault(app, store, rng):
    """Whatever the store does wrong, it is neither the caller's fault nor ours."""
    nonsense = ["no JSON", "[]", "null", "{}", '{"features": []}', '{"features": ["a"]}', '{"features": [null]}']
    nonsense += ['{"features": 1}', '{"features": [NaN]}', ""]
    cases = [(404, (404, "{}"), "of a store that answers 404")]
    statuses = (500, 429, 302, 204)
    cases += [(502, (status, '{"features": [1.0]}'), f"of a store that answers {status}") for status in statuses]
    cases += [(502, (200, body), f"of a store that answers 200 with {body or 'nothing'}") for body in nonsense]
    cases += [(504, None, "of a store that does not answer")]
    for wanted, reply, what in cases:
        user = rng.randrange(10**6, 10**7)
        store.replies[user] = reply
        call = enriched(app, user, wanted, what)
    took, limit = call.finished - call.sent, 0.4
    assert took >= limit - EARLY, f"504 after {took:.2f} s\nwanted: not before feature_store_seconds={limit}"
    if took > SOON * limit:
        blame_the_machine_unless(lambda: SOON * limit / seconds_of_a_timeout(store, user, limit), 1)
    assert took <= SOON * limit, f"504 after {took:.1f} s\nwanted: after feature_store_seconds={limit}"


def seconds_of_a_timeout(store, user, limit):
    """How long the lab's own client waits for an answer that does not come."""
    import httpx

    started = time.perf_counter()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{store.url}/features/{user}", timeout=limit, trust_env=False)
    return time.perf_counter() - started


# -- 4.5 and 4.6 ------------------------------------------------------------------------------------------------------


def in_order(app, lab, probe, workspace, rng, slots, places, show):
    """So many inside, so many waiting, the rest refused, and who waits gets in as it came: the picture of that."""
    calls = line_up(app, rng, slots + places)
    app.go_on_until(lambda: probe.inside > slots)
    asked(probe, calls)
    nobody_crashed(calls)
    inside = probe.inside
    if inside != slots and inside in (places, slots + places):
        show.at(workspace.where_defined(lab.service.create_app))
    assert inside <= slots, (
        f"with max_in_flight={slots} {inside} calls are in the model together\nwanted: {slots}\n"
        + too_many(inside, slots, places)
    )
    assert inside == slots, f"{inside} calls are in the model together\nwanted: max_in_flight={slots}" + (
        f"\ntry: Is max_queue={places} in its place?" if inside == places else ""
    )
    early = [call for call in calls.values() if call.done]
    if early:
        took = early[0].finished - early[0].sent
        pytest.fail(
            f"{len(early)} of {places} that could wait were not kept waiting: "
            f"{how_it_ended(early[0])} after {took:.2f} s\n"
            f"wanted: max_queue={places} wait for a slot, up to queue_seconds=60"
        )
    refusals_are_told(app, rng)

    order = list(calls)
    while probe.inside:
        longest = min((call for call in probe.calls if call.left is None), key=lambda call: call.entered)
        due = len(probe.calls) + (len(probe.calls) < len(order))
        probe.release(longest)
        app.go_on_until(lambda due=due, longest=longest: len(probe.calls) >= due and longest.left)
        assert len(probe.calls) >= due, "a call has left, and nobody took its place\nwanted: whoever waits longest"
    came = [call.features for call in probe.calls]
    picture = queue_picture(f"{slots} slots, {places} places to wait", calls, probe)
    if came != order:
        show.picture(picture)
    places_of = [order.index(features) + 1 for features in came]
    assert came == order, f"they got into the model in the order {places_of}\nwanted: first come, first served"
    for call in calls.values():
        assert call.answer().status_code == 200, f"who waited got {call.answer().status_code}\nwanted: 200"
    return picture


def too_many(inside, slots, places):
    """What it may be that lets more in than there are slots."""
    if inside == slots + 1 != places:
        return "try: It is one too many: `<` or `<=`?"
    if inside == places:
        return f"try: Is max_queue={places} in the place of max_in_flight?"
    return "try: In create_app, add the AdmissionControl with the numbers of the settings."


def refusals_are_told(app, rng):
    """With all slots and places taken, whoever comes is refused and told when to come again, but not at /health."""
    refused = [*ask(app, "/predict", rng, 3).values(), *ask(app, "/predict/threaded", rng, 1).values()]
    app.go_on_until(lambda: all(call.done for call in refused))
    for call in refused:
        assert call.done, (
            f"all slots and places are taken, and one more {call.asked} gets no answer\n"
            "wanted: a 503 at once, while the others are held"
            + ("" if call.asked.endswith("/predict") else "\ntry: Guarded are `/predict` and all below it.")
        )
        answer = call.answer()
        status, path = answer.status_code, answer.url.path
        assert status == 503, (
            f"all slots and places are taken, and one more call of {path} is answered {status}\n"
            "wanted: 503: it is the service that has too much to do, not the caller who did something wrong\n"
            "try: `Service Unavailable` is 503, `Too Many Requests` (of this caller) 429."
        )
        come_again(answer)
    for path, wanted in (("/health", 200), ("/openapi.json", 200), ("/predictions", 404)):
        page = app.get(path)
        app.go_on_until(lambda page=page: page.done)
        status = page.answer().status_code if page.done else "nothing"
        assert status == wanted, (
            f"all slots and places are taken, and GET {path} gets {status}\nwanted: {wanted}, always\n"
            "try: Guarded are the path `/predict` and those that begin with `/predict/`, no others."
        )
    if "server-timing" in app.get("/health").answer().headers:
        assert all("server-timing" in call.answer().headers for call in refused), (
            "a refusal has no Server-Timing, other answers have\n"
            "wanted: timing stays outermost, and counts refusals, too\n"
            "try: Add the AdmissionControl before the TimingMiddleware: the last one added is the outermost."
        )


def others_pass(lab):
    """What is no HTTP request passes: an open WebSocket takes no slot, and cannot be answered with a 503."""
    inside = []

    async def app(*scope):
        inside.append(scope)
        await asyncio.Event().wait()

    async def go():
        guard = lab.admission.AdmissionControl(app, max_in_flight=1, max_queue=0, queue_seconds=1.0)
        scope = {"type": "websocket", "path": "/predict"}
        tasks = [asyncio.ensure_future(guard(scope, None, None)) for _ in range(2)]
        for _ in range(30):  # rounds of the loop, in which a right answer has long passed them on
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(go())
    assert len(inside) == 2, (
        f"with max_in_flight=1 {len(inside)} of 2 WebSockets reached the app\nwanted: what is no HTTP request passes"
    )


def walk(lab, rng, show):
    """A thousand random steps with a bare AdmissionControl: the number of steps; fails at the first that goes wrong."""
    from checks.harness.assertions.admission_walk import Stray, Walk

    steps = 1000

    async def go():
        await Walk(lab.admission.AdmissionControl, rng.randint(2, 4), rng.randint(2, 5), rng).go(steps)

    try:
        asyncio.run(go())
    except Stray as stray:
        if stray.__cause__ is not None:
            raise stray.__cause__ from None
        show.table("the last steps", ("what happened", "inside", "wanted", "waiting", "wanted"), stray.rows)
        seen, _, wanted = str(stray).partition("\nwanted: ")
        pytest.fail(f"{seen}\nwanted: {wanted}")
    return steps


def without_a_queue(service, rng):
    """max_queue=0 means that nobody waits; and Retry-After is never 0, however short the waiting may be."""
    for seconds in (60, 0.25):
        app = service(model=Probe(), max_in_flight=1, max_queue=0, queue_seconds=seconds)
        held, refused = line_up(app, rng, 2).values()
        with app.causes_first():
            app.go_on_until(lambda refused=refused: refused.done)
            assert refused.done, "with max_queue=0 and a single slot, the second of two waits\nwanted: refused at once"
            assert not held.done, "with max_queue=0 and a free slot, a call is refused\nwanted: it gets the slot"
            come_again(refused.answer())


def come_again(answer):
    """A refusal says when it makes sense to come again."""
    after = answer.headers.get("retry-after", "")
    seconds = int(after) if after.isdecimal() else 0
    assert seconds >= 1, (
        f"a refusal's Retry-After is {after!r}\nwanted: whole seconds, at least 1\n"
        'try: `(b"retry-after", str(max(1, math.ceil(queue_seconds))).encode())` among the headers of the refusal.'
    )


def queue_picture(title, calls, probe):
    """Who waited how long for a slot, and worked in it, in the order in which they came."""
    inside = {call.features: call for call in probe.calls}
    rows = [
        (f"{number}.", call.sent, inside[features].entered, inside[features].left)
        for number, (features, call) in enumerate(calls.items(), 1)
        if features in inside and inside[features].left
    ]
    return timeline(rows, title, note="where the lab held them")


def patient(app, service, probe, rng, slots, places, seconds):
    """Who waits longer than `seconds` is refused, nobody else, and never reaches the model: how long each waited."""
    more_patient = service(model=Probe(), max_in_flight=1, max_queue=1, queue_seconds=60)
    _, stays = line_up(more_patient, rng, 2).values()
    inside = line_up(app, rng, slots)
    app.go_on_until(lambda: probe.inside == slots)
    asked(probe, inside)
    nobody_crashed(inside)
    waits = []
    for _ in range(2):  # the second time only if the places are free again
        waiting = line_up(app, rng, places)
        app.go_on_until(lambda waiting=waiting: all(call.done for call in waiting.values()))
        nobody_is_cut_off(inside, seconds)
        waits += gave_up(waiting, seconds)
    # No clock: two waits in vain are over, one after the other, so that whoever waits for 60 s as long is done, too.
    if stays.done:
        status, waited = how_it_ended(stays), stays.finished - stays.sent
        pytest.fail(
            f"with queue_seconds=60 a caller was given up after {waited:.2f} s ({status})\n"
            "wanted: it waits for as long as the settings say\ntry: `self.queue_seconds`, not a number of your own."
        )
    late = line_up(app, rng, 1)
    probe.release(probe.calls[0])
    app.go_on_until(lambda: len(probe.calls) > slots)
    asked_for = [call.features for call in probe.calls[slots:]]
    assert asked_for == list(late), (
        f"when a slot came free the model was asked {len(asked_for)} times, not just for the one who still waits\n"
        "wanted: once: those who had their 503 already are gone"
        if asked_for
        else "when a slot came free nobody got it\nwanted: the one who still waits: a slot is lost to those who gave up"
    )
    time.sleep(seconds)  # it has waited before, and is at work now: longer than queue_seconds in all
    app.until(lambda: next(iter(late.values())).done, horizon=0)
    assert not next(iter(late.values())).done, (
        f"who had waited was cut off at work: {how_it_ended(next(iter(late.values())))}\n"
        "wanted: the limit is on waiting; work that has begun is finished"
    )
    probe.open()
    for call in [*inside.values(), *late.values()]:
        status = how_it_ended(call)
        assert status == 200, f"a call that had got its slot ended in {status}\nwanted: 200"
    app.until(lambda: len(probe.calls) > slots + 1)
    extra = len(probe.calls) - slots - 1
    assert extra == 0, f"the model was asked {extra} times for callers who had their 503 already\nwanted: never"
    return waits


def how_it_ended(call):
    """The status that a call was answered with, or the exception that cut it off."""
    try:
        return call.answer().status_code
    except BrokenOff as cut:
        return cut.ended


def nobody_is_cut_off(inside, seconds):
    """Who has a slot keeps it, however long the work takes."""
    cut = [call for call in inside.values() if call.done]
    if cut:
        pytest.fail(
            f"with queue_seconds={seconds} {len(cut)} of {len(inside)} calls that were in the model were cut off: the "
            f"first ended in {how_it_ended(cut[0])} after {cut[0].finished - cut[0].sent:.2f} s\n"
            "wanted: work that has begun is finished\ntry: The limit belongs around the waiting only."
        )


def gave_up(waiting, seconds):
    """How long each caller waited before it was refused."""
    for call in waiting.values():
        assert call.done, (
            f"with queue_seconds={seconds} a caller waits on, while nothing else goes on any more\n"
            "wanted: a 503 as soon as it has waited that long, whether or not a slot comes free"
        )
        status, waited = how_it_ended(call), call.finished - call.sent
        assert isinstance(status, int), (
            f"who waited in vain got no answer: its request ended in {status}\nwanted: a 503\n"
            "try: Catch that where you wait, and send the refusal."
        )
        assert status >= 400, f"who waited in vain was answered {status}\nwanted: 503"  # 4.5 judges which
        assert waited >= seconds - EARLY, (
            f"with queue_seconds={seconds} a caller was refused after {waited:.2f} s, with a place in the queue free\n"
            "wanted: it waits that long; who gave up frees the place"
        )
    return [call.finished - call.sent for call in waiting.values()]


def the_time_runs_from_arrival(service, rng):
    """With one slot that comes free again and again, only those first in the queue get it in time."""
    seconds, most = 0.3, 9
    probe = Probe(held=False, seconds=0.4 * seconds)  # the second waits 0.4 times as long as it may, the third 0.8
    app = service(model=probe, max_in_flight=1, max_queue=most - 1, queue_seconds=seconds)
    calls = line_up(app, rng, most)
    app.until(lambda: all(call.done for call in calls.values()))
    served = sum(call.answer().status_code == 200 for call in calls.values())
    assert served == len(probe.calls), f"{len(probe.calls)} got their slot, and {served} a 200\nwanted: 200 for each"
    assert served <= most - 3, (
        f"{most} came at once for one slot, which comes free every {0.4 * seconds:.2f} s: {served} were served\n"
        f"wanted: about 3: for the others it is more than queue_seconds={seconds} since they came\n"
        "try: Start the time once, when the request arrives: not when it is first in the queue, nor at each waking."
    )


# -- 4.7 --------------------------------------------------------------------------------------------------------------


def first_in_here(service, rng):
    """One is served, one waits, one is refused: what raises does so here first, where its line is seen."""
    probe = Probe()
    app = service(model=probe, max_in_flight=1, max_queue=1)
    calls = line_up(app, rng, 3)
    app.go_on_until(lambda: probe.inside)
    asked(probe, calls)
    probe.open()
    app.go_on_until(lambda: all(call.done for call in calls.values()))
    nobody_crashed(calls)
    status = next(iter(calls.values())).answer().status_code
    assert status == 200, f"/predict gave {status}\nwanted: 200"


def overload_score(load):
    """At least 1 where 0.7 of the capacity is served in time, and a refusal takes less than a service time."""
    return min(load.goodput / (0.7 * load.capacity), load.seconds / load.refused_in)


def overload_picture(loads):
    """Goodput and p95 against the load that was offered, with admission control and without."""
    capacity = loads[2][0].capacity
    rows = [(f"{times:g} x", f"{a.offered:.0f}", *a.row(), *b.row()) for times, (a, b) in sorted(loads.items())]
    columns = ("load", "sent/s", "goodput/s", "p95 ms", "without: goodput/s", "p95 ms")
    title = f"capacity {capacity:.0f}/s; with admission control, and without it"
    return Table(title, [*columns], [[str(cell) for cell in row] for row in rows])
