"""4.2: `python -m lab.serve`, started as a deployment does it: where it listens, how many workers, how it ends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil

from checks.harness.assertions.not_ready import blame_the_ping
from checks.harness.errors import Failure, Inconclusive, LearnerError, LostAnswer, ServerDied
from checks.harness.fixtures import KINDS, Launch, Serve
from checks.harness.grading.noise import best_of, blame_the_machine_if_busy
from checks.harness.judge.kernel import can_look, look
from checks.harness.machine import FairClock, fair_clock
from checks.harness.processes.servers import Server, free_port, just_one_process
from checks.harness.processes.single_requests import FEATURES, Answer, ask_once
from checks.harness.processes.workers import all_pids, pids, pids_beside, rate, spread
from checks.harness.report.evidence import Show

WORKERS = 4
EACH = 8
"""Connections that each worker holds while its rate is measured."""
GAIN = 2.2
"""Times what one worker can give that four give at least."""
WORKERS_SECONDS = 10.0
"""Seconds of fair time in which all workers answer; they take two."""
LONGEST_COUNT = 45.0
LOOKS = 10
"""Looks in a row, 50 ms apart, at which all workers that were started answer."""
DRAIN = 1
"""LAB_DRAIN_SECONDS of the server whose end is looked at."""
LONG_REQUEST = 8.0
"""Seconds of a request that a drain must not wait for."""
BETWEEN_LOOKS = 0.1
ASLEEP = 20
"""Looks at which a service sleeps between SIGTERM and the end of that request, although its drain is over.

A right one can be asleep for its drain and a tick of uvicorn's, at 12 looks at most. Then its timer is due: it wants a
core until it has ended the request, however busy the machine is. One that waits for the request sleeps at 70 looks.
"""


def on_a_free_port(launch: Launch) -> Server:
    """A service that was given its port, and listens there; another port where a stranger was quicker to take it."""
    for _ in range(3):
        port = free_port()
        try:
            alone = launch(PORT=str(port), LAB_INFERENCE_SECONDS="0.5")
        except ServerDied as error:
            if str(port) not in error.output:
                raise AssertionError(wrong_port(port, "it uses another port, which is taken")) from None
            continue
        assert alone.port == port, wrong_port(port, f"it listens on {alone.port}")
        return alone
    raise Inconclusive("no port stayed free for a second")


def wrong_port(port: int, but: str) -> Failure:
    """It does not listen on the port of the environment."""
    return Failure(
        f"with PORT={port} {but}", "the port of the environment", '`port=int(os.environ.get("PORT", "8000"))`.'
    )


def listens_on_its_host(server: Server, host: str = "") -> None:
    """uvicorn names the host of the environment, if it names one; 127.0.0.1 where the environment does not."""
    wanted = host or "127.0.0.1"
    named = re.search(r"running on \w+://(\S+):\d+", server.output())  # a quiet log does not
    assert not named or named[1] == wanted, Failure(
        f"{f'with HOST={host}' if host else 'without HOST'} it listens on {named and named[1]}",
        "the host of the environment"
        if host
        else "127.0.0.1, the default: only with HOST is it open to other machines",
        '`host=os.environ.get("HOST", "127.0.0.1")`.',
    )


def as_many_as_asked(server: Server, alone: Server, clock: FairClock) -> None:
    """Four workers answer where four were asked for, and one where none were."""
    found, started = living_pids(server, clock), server.spawned_workers()
    if 0 < started < WORKERS:
        found = started
    elif found < WORKERS and not just_one_process(server.output()):
        blame_the_ping(server.output(), clock)
        blame_the_machine_if_busy(clock, f"whether {WORKERS} workers start")
    reloads = "Started reloader process" in server.output()
    assert found == WORKERS, Failure(
        f"{found} process{'es' * (found != 1)} answered with WEB_CONCURRENCY={WORKERS}"
        f"{', and it watches files for a reload' * reloads}",
        f"{WORKERS} different pids",
        "Leave out `reload=True`: uvicorn then starts one process, whatever `workers` says."
        if reloads
        else '`workers=int(os.environ.get("WEB_CONCURRENCY", "1"))` of `uvicorn.run`, which starts them: a '
        "`uvicorn.Server` of your own is one process.",
    )
    rounds = 1 if just_one_process(alone.output()) else 12  # only now: it has had as long to start more of them
    few = len(pids_beside(alone.url, "/predict/blocking", rounds))
    if few > 1:
        started = len(set(re.findall(r"Started server process \[(\d+)\]", alone.output())))
        few = max(few, started, len(all_pids(alone.url, 64, 2)))
    assert few == 1, Failure(
        f"without WEB_CONCURRENCY {few} workers answer",
        "1",
        '`workers=int(os.environ.get("WEB_CONCURRENCY", "1"))`: one worker if the variable is not set.',
    )


def living_pids(server: Server, clock: FairClock) -> int:
    """How many workers answer, when as many do as were asked for, or no more will."""
    began, found = clock.seconds(), pids(server.url)
    until, complete = time.monotonic() + LONGEST_COUNT, 0
    while len(_alive(found)) < WORKERS and not just_one_process(server.output()):
        if clock.seconds() - began > WORKERS_SECONDS or time.monotonic() > until:
            break
        complete = complete + 1 if 0 < len(_alive(found)) == server.spawned_workers() else 0
        if complete > LOOKS:  # all that it has started answer, and it starts no more
            break
        time.sleep(0.05)
        found |= pids(server.url)
    return len(_alive(found))


def _alive(found: set[int]) -> set[int]:
    return {pid for pid in found if psutil.pid_exists(pid)}


@contextmanager
def ends_after_its_drain(launch: Launch) -> Iterator[None]:
    """Look, while the body runs, whether a service that is asked to end does so after its drain."""
    with ThreadPoolExecutor(1) as beside:
        looking = beside.submit(_ends_after_its_drain, launch)
        yield
        looking.result()


def _ends_after_its_drain(launch: Launch) -> None:
    """Asked to end, it gives a request in flight `drain_seconds`, and then ends without it."""
    server = launch(PORT="0", LAB_DRAIN_SECONDS=str(DRAIN), LAB_INFERENCE_SECONDS=str(LONG_REQUEST))
    where = urlsplit(server.url)
    with ThreadPoolExecutor(2) as pool, fair_clock() as clock:
        request = pool.submit(
            ask_once, (where.hostname or "", where.port or 0), "/predict", 60, method="POST", body=FEATURES
        )
        in_the_model(server)
        asleep = pool.submit(looks_asleep, server, request)
        server.ask_to_stop()
        answer: Answer = request.result()
    if answer.status != 200:
        return
    waited = Failure(
        f"with LAB_DRAIN_SECONDS={DRAIN} the service waited for a request of {LONG_REQUEST:g} s after SIGTERM",
        f"an end after {DRAIN} s: a process that takes longer is killed",
        "`timeout_graceful_shutdown=Settings().drain_seconds` in `uvicorn.run`: without it the drain has no "
        "time limit.",
    )
    if asleep.result() < ASLEEP:  # then the timer of its drain may have been due all the time
        blame_the_machine_if_busy(clock, "whether the service ends after its drain", waited)
    raise AssertionError(waited)


def looks_asleep(server: Server, request: Future[Answer]) -> int:
    """At how many looks, until the request has ended, all threads of the server sleep: none of them wants a core."""
    found = 0
    while not request.done():
        found += can_look() and look(server.processes()).asleep
        time.sleep(BETWEEN_LOOKS)
    return found


def in_the_model(server: Server) -> None:
    """Return when a request that was just sent has had its time to get into the model."""
    for _ in range(3):  # each answer comes from the same event loop, behind the request
        ask_once(("127.0.0.1", server.port), "/health", 30)
        time.sleep(0.1)


def four_give_more_than_one(serve: Serve, server: Server, seconds: float, clock: FairClock, show: Show) -> None:
    """Four workers serve `/predict/blocking` at 2.2 times what one can give, or the lab's own service fails, too."""
    wanted = GAIN / seconds  # one worker cannot exceed 1 / seconds: that is arithmetic
    reached = best_of(lambda: rate_of(server, clock), wanted)
    show.number(f"{WORKERS} workers: {reached * seconds:.1f} times one", reached * seconds)
    if reached >= wanted:
        return
    own_url = serve(app=KINDS, workers=WORKERS, inference_seconds=seconds).url
    with fair_clock() as now:
        rounds = [(blocking_rate(own_url), rate_of(server, clock)) for _ in range(2)]
    own, theirs = min(own for own, _ in rounds), max(theirs for _, theirs in rounds)
    if own < wanted or theirs >= wanted:
        said = f"the lab's own service reached {own:.1f} of the wanted {wanted:.1f} requests/s in the same seconds"
        raise Inconclusive(f"this machine is too busy: {said}")
    blame_the_machine_if_busy(now, "how much four workers give")
    raise AssertionError(
        Failure(
            f"{WORKERS} workers gave /predict/blocking {reached:.1f} requests/s, the lab's own service {own:.1f}",
            f"at least {wanted:.1f}, {GAIN} times what one worker can give",
            "Do the workers wait for one another, at a file or a lock that all of them share?",
        )
    )


def rate_of(server: Server, clock: FairClock) -> float:
    """The same as `blocking_rate`. An answer that was lost on a busy machine is no mistake."""
    try:
        return blocking_rate(server.url)
    except LearnerError as error:
        blame_the_ping(server.output(), clock)
        if isinstance(error, LostAnswer):
            blame_the_machine_if_busy(clock, "why an open connection gave no answer", error.failure)
        raise


def blocking_rate(url: str) -> float:
    """Requests/s of `/predict/blocking` over connections that are spread evenly over the workers."""
    with spread(url, WORKERS, EACH * WORKERS) as connections:
        return rate(connections, "/predict/blocking", 2)


def worker_picture(serve: Serve, show: Show) -> None:
    """Show what one, two and four workers give to the lab's own service; nothing on a machine too busy for that."""
    seconds, connections, rows = 0.02, 16, []
    measured = (("/predict/blocking", 1), ("/predict", 2), ("/burn", 1))
    try:
        server = serve(app=KINDS, workers=WORKERS, inference_seconds=seconds)
        with spread(server.url, WORKERS, WORKERS * connections) as held:
            for workers in (1, 2, 4):  # the others have nothing to do
                asked = [held[n * connections + k] for n in range(workers) for k in range(connections // workers)]
                rows.append((workers, *(f"{rate(asked, path, each):.0f}" for path, each in measured)))
    except (Inconclusive, LearnerError):
        return
    columns = ("workers", "blocking, 20 ms", "awaited, 20 ms", "computing, 10 ms")
    show.table(f"requests/s of the lab's own service over {connections} connections", columns, rows)
