"""Exercise 4 - tuning for throughput.

A service has three knobs: workers, threads and connections. You predict what each of them gives, then turn it. What no
knob can serve has to be refused, or all requests wait too long. Begin with `lab/predictions.py`.

PYTEST_DONT_REWRITE
"""

import pytest

from checks.harness.apps.feature_store import store_that_is_full
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.machine import fair_clock
from checks.harness.processes.servers import free_port


@pytest.mark.checkpoint(
    "4.1",
    points=2,
    deadline=15,
    hints=(
        "How many requests can be in the model together? Each of those places serves 1 / seconds requests a second.",
        "Little's law: busy threads = rate x seconds. Remove the rounding error of floats (`round(..., 9)`) "
        "before `math.ceil`.",
    ),
)
def test_predictions(workspace, lab, rng, show):
    """Capacity is arithmetic.

    A measurement can only surprise you if you predicted it. Capacity is places divided by service time. How many
    places a rate needs is Little's law (1961), the most useful line of arithmetic in this field.
    """
    from checks.support.ex4 import arithmetic

    predict, needed = lab.predictions.max_throughput, lab.predictions.threads_needed
    show.at(workspace.where_defined(predict))
    arithmetic.throughput_is_places_by_time(predict, rng)
    show.at(workspace.where_defined(needed))
    arithmetic.busy_threads_rounded_up(needed, rng)
    show.number("100/s of 70 ms keep 7 threads busy", 7)


@pytest.mark.checkpoint(
    "4.2",
    points=3,
    deadline=180,
    hints=(
        '`uvicorn.run("lab.service:create_app", factory=True, host=..., port=..., workers=...)`: with more than one '
        "worker uvicorn needs the app's name, because each worker imports the app.",
        "The environment holds text. PORT and WEB_CONCURRENCY both need `int(...)`: "
        '`int(os.environ.get("PORT", "8000"))`.',
        "On a busy machine uvicorn may end workers that do not answer it within 5 s: `timeout_worker_healthcheck=60`.",
        "Try it by hand: `PORT=8080 WEB_CONCURRENCY=4 uv run python -m lab.serve`.",
    ),
)
def test_workers(serve, launch, service, workspace, lab, rng, show):
    """Workers multiply blocking work.

    A worker is a process with an event loop of its own. Blocking code gets faster with each worker. Code that awaits
    gains nothing, and code that computes gains up to the number of cores. Each worker costs memory. The number of
    workers comes from the environment, so that whoever runs the service can set it.
    """
    from checks.support.ex4 import deployment

    seconds = round(rng.uniform(0.09, 0.11), 3)
    here = service(inference_seconds=0)  # an exception is raised here first, where its line is known
    assert here.get("/health").answer().status_code == 200, Failure("GET /health does not answer", "200: see 1.1")
    show.at(workspace.where_named(lab.serve, "main"))
    with fair_clock() as clock:
        alone = deployment.on_a_free_port(launch)
        deployment.listens_on_its_host(alone)
        asked = {"PORT": "0", "HOST": "localhost", "WEB_CONCURRENCY": str(deployment.WORKERS)}
        with deployment.ends_after_its_drain(launch):
            server = launch(**asked, LAB_INFERENCE_SECONDS=str(seconds))
            deployment.listens_on_its_host(server, "localhost")
            deployment.as_many_as_asked(server, alone, clock)
        deployment.four_give_more_than_one(serve, server, seconds, clock, show)
    deployment.worker_picture(serve, show)


@pytest.mark.checkpoint(
    "4.3",
    points=2,
    hints=(
        "In `lifespan`, before the `yield`: `current_default_thread_limiter().total_tokens = ...`, which is in "
        "`anyio.to_thread`. And the app is made with `FastAPI(..., lifespan=lifespan)`.",
        "The limiter belongs to an event loop. At import, and in create_app, no event loop runs yet.",
    ),
)
def test_thread_pool_size(service, workspace, lab, rng, show):
    """The pool has thread_pool_size threads.

    40 is a default, not a property of your model. threads_needed tells you how many threads your target needs. A thread
    that waits costs little. With one thread too few the requests wait in a queue.
    """
    from checks.support.ex4 import requests, threads

    rows = []
    show.at(workspace.where_named(lab.service, "lifespan", "create_app"))
    for size in (rng.randint(60, 80), rng.randint(5, 20)):
        probe = Probe()
        app = service(model=probe, thread_pool_size=size)
        calls = requests.send(app, "/predict/threaded", rng, max(size, 40) + 20)
        together, on_threads = threads.most_inside(app, probe, calls)
        requests.require_model_calls(app, probe, calls)
        rows.append((size, len(calls), together))
        if together != size:
            service.enter_lifespan()
            show.table("/predict/threaded", ("thread_pool_size", "calls", "in the model together"), rows)
        assert together == size, threads.another_size(
            size, len(calls), together, held_before=len(rows) > 1, workspace=workspace
        )
        assert probe.peak == size <= on_threads, threads.no_threads(size, probe.peak, on_threads)
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
        "`httpx.TimeoutException` is a 504, any other `httpx.HTTPError` a 502. Check the answer before you use it.",
    ),
)
def test_feature_store(feature_store, service, workspace, lab, rng, show):
    """A pool reuses its connections.

    A new connection for each request costs a handshake, and under load as many sockets as there are requests: that
    overloads the store. A pool sets a limit, and the other requests wait in our queue. When the store fails, our status
    says that the store is the cause.
    """
    from checks.support.ex4 import store

    users = rng.sample(range(1, 10**6), 60)
    feature_store.users = {user: [rng.uniform(-100, 100), rng.randint(-100, 100)] for user in users}
    pool, probe, apps = rng.randint(3, 5), Probe(held=False, seconds=0), []

    def app_with(seconds, url=feature_store.url, connections=pool):
        limits = {"feature_store_seconds": seconds, "feature_store_connections": connections}
        apps.append(app := service(model=probe, feature_store_url=url, **limits))
        app.progress = lambda: (len(probe.calls), len(feature_store.asked), feature_store.sent)
        return app

    opens = workspace.where_named(lab.feature_store, "open_feature_store")
    fetches = workspace.where_named(lab.feature_store, "fetch_features")
    show.at(opens)
    patient = app_with(store.LONG)
    store.few_connections(patient, feature_store, users, pool, probe, show, fetches)
    wide = app_with(store.LONG, connections=pool + 1)
    store.all_connections_are_used(wide, feature_store, rng.sample(users, 2 * pool), pool + 1)
    waiting = app_with(store.POOL_LIMIT)
    store.waiting_for_our_own_pool(waiting, feature_store, rng.sample(users, 2 * pool), pool, workspace)

    show.at(workspace.where_named(lab.service, "EnrichedRequest", "predict_enriched"))
    store.no_user_id_is_refused(patient)
    show.at(fetches)
    errors = store.Errors(workspace, feature_store, opens)
    store.answers_of_the_store(errors, patient, feature_store, rng)
    in_time = store.silence_of_the_store(errors, app_with(store.LIMIT), feature_store, rng.randrange(10**6, 10**7))
    nothing_there = f"http://127.0.0.1:{free_port()}"
    errors.add(app_with(store.LONG, nothing_there), 1, 502, "the store is down")
    with store_that_is_full() as url:  # where the system refuses such connections it is one more that is down
        far = app_with(store.LIMIT, url or nothing_there)
        errors.add(far, 1, 504 if url else 502, "the store accepts no connection")
    errors.judge(show)
    show.at(opens)
    in_time()
    store.all_connections_are_closed(feature_store, apps)


@pytest.mark.checkpoint(
    "4.5",
    points=5,
    hints=(
        "Count the requests in the app. A request that finds no free slot waits for a Future of its own in a "
        "`collections.deque`. A request that ends pops the first Future and hands its slot over, without making "
        "it free in between.",
        "`try: await self.app(...)`, and give the slot back in `finally:`, which also runs after exceptions "
        "and cancellations.",
        "A request that is cancelled while it waits has to leave the queue: `except asyncio.CancelledError`, "
        "remove it, `raise`.",
        "`app.add_middleware(AdmissionControl, ...)` comes before the TimingMiddleware's: the last added is outermost.",
    ),
)
def test_admission(service, workspace, lab, rng, show):
    """A limit for the app, and for the queue.

    A queue without a limit loses no request, but it makes all of them late. So a service accepts only what it can serve
    soon, in the order of arrival, and refuses all others at once: their callers can then try another service, or try
    again later. A slot that is lost, by a crash or by a cancelled request, never comes back: after some days no request
    is served.
    """
    from checks.support.ex4 import admission
    from checks.support.ex4.lines import Lines

    control = lab.admission.AdmissionControl
    control(None, max_in_flight=1, max_queue=1, queue_seconds=1.0)  # a stub raises here
    lines = Lines(lab, workspace)
    show.at(lines.call)
    slots, places = rng.sample(range(2, 6), 2)  # never the same: one taken for the other is seen
    probe = Probe()
    app = service(model=probe, max_in_flight=slots, max_queue=places)
    scene = admission.Scene(app, probe, slots, places, lines)
    with scene.shown_if_it_fails(show), app.causes_first():
        picture = admission.first_come_first_served(scene, rng)
    admission.without_a_queue(service, rng, show, lines)
    admission.what_is_not_http_passes(control, lines)
    steps = admission.random_walk(lines, rng, show)
    show.picture(picture)
    show.number(f"{slots} inside, {places} waiting; {steps} steps", slots)


@pytest.mark.checkpoint(
    "4.6",
    points=3,
    hints=(
        "The time limit is for the wait alone: `loop.call_later(queue_seconds, ...)` ends the wait, and is "
        "cancelled when the slot comes.",
        "A request that was refused must not be in the queue any more when a slot is handed out.",
    ),
)
def test_waiting_has_an_end(service, workspace, lab, rng, show):
    """A request that waits too long is refused.

    After a second of waiting a caller has often gone, and sent the request again. Work for callers who have gone is
    useless load: it takes slots from callers who still wait, until they go, too. Work that has begun is different: if
    it is cut off, all the time spent on it is lost.
    """
    from checks.support.ex4 import waiting
    from checks.support.ex4.lines import Lines

    control, lines = lab.admission.AdmissionControl, Lines(lab, workspace)
    control(None, max_in_flight=1, max_queue=1, queue_seconds=1.0)  # a stub raises here
    show.at(lines.call)
    (slots, places), seconds = rng.sample(range(2, 5), 2), round(rng.uniform(0.3, 0.4), 2)
    probe = Probe()
    app = service(model=probe, max_in_flight=slots, max_queue=places, queue_seconds=seconds)
    held = waiting.Waits(app, probe, slots, places, seconds, lines)
    with app.causes_first():
        waits = held.in_vain(service, rng)
        held.a_freed_slot_is_for_the_last(rng)
    show.table(
        f"{slots} slots held, queue_seconds={seconds}",
        ("waited in vain", "least s", "most s"),
        [(len(waits), f"{min(waits):.2f}", f"{max(waits):.2f}")],
    )
    show.number(f"refused after {min(waits):.2f} s or more", min(waits))
    waiting.the_time_runs_from_arrival(service, rng, lines)


@pytest.mark.checkpoint(
    "4.7",
    points=4,
    deadline=180,
    hints=(
        "In an overload a service with S slots and S places to wait keeps all slots busy, and no request waits "
        "longer than two service times. A refusal costs nearly nothing: no handler, no body, no waiting.",
        "Refuse before any work is done, and let a refused request hold nothing: no slot, no place, no count.",
    ),
)
def test_overload(serve, service, workspace, lab, rng, show):
    """Goodput stays at twice the load.

    Goodput counts only answers that come in time. Without a limit the queue grows for as long as the overload lasts,
    and soon every answer is too late: the service works at full throughput, and no caller can use its answers.
    """
    from checks.support.ex4.lines import Lines
    from checks.support.ex4.storms import Storms, one_of_each

    control = lab.admission.AdmissionControl
    control(None, max_in_flight=1, max_queue=1, queue_seconds=1.0)  # a stub raises here
    lines = Lines(lab, workspace)
    show.at(lines.call)
    slots, seconds = rng.randint(3, 4), round(rng.uniform(0.09, 0.11), 3)
    one_of_each(service, rng)
    storms = Storms(serve, rng, slots, seconds)
    show.picture(storms.run())
    storms.judge(show, lines)
    storms.all_slots_are_free_again()


@pytest.mark.checkpoint(
    "4.8",
    points=2,
    deadline=15,
    hints=(
        "Two steps: leave out all rows that break the SLO, then take the one with the most goodput.",
        "`min(..., key=lambda m: (-m.goodput, m.workers, m.threads), default=None)` also decides between rows "
        "of equal goodput.",
    ),
)
def test_choose(workspace, lab, rng, show):
    """The best configuration keeps the SLO.

    The row with the most requests/s is often useless, because its p95 is seconds. And if two rows have the same
    goodput, the smaller configuration is better: each worker is a copy of the model in memory.
    """
    from checks.support.ex4.arithmetic import Choices

    choose = lab.tuning.choose
    show.at(workspace.where_defined(choose))
    Choices(choose, lab.records, rng, show).judge()
    show.number("most goodput within the SLO", 1)
