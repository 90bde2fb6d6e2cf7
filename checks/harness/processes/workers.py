"""Connections spread evenly over the workers of a service, and what they get: workers share a port, not connections."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from checks.harness.errors import Inconclusive, LearnerError, LostAnswer, cut
from checks.harness.processes.single_requests import FEATURES, Answer, ask

BATCH = 32
"""Connections that are opened before the first is asked: one after the other, the same worker may take each of them."""
BATCHES = 20
TIMEOUT = 60.0
HEAD_START = 0.1
"""Seconds in which a request gets from its connection into its handler."""

Connections = list[HTTPConnection]


def pids(url: str) -> set[int]:
    """Which workers answer `GET /health` over one batch of new connections."""
    found = _batch(url)
    for connection, _ in found:
        connection.close()
    return {pid for _, pid in found}


def pids_beside(url: str, blocking: str, rounds: int = 1) -> set[int]:
    """Which workers answer, at first and while a request to `blocking` keeps one of those from taking connections.

    On a busy machine that one may have taken them all before the request gets to its handler: so, while no second one
    has answered, up to so many `rounds`.
    """
    found: set[int] = set()
    while len(found) < 2 and rounds > 0:
        rounds -= 1
        held = _batch(url)
        found |= {pid for _, pid in held}
        for connection, _ in held[:1]:
            with suppress(OSError, HTTPException):  # closed, as it was idle for too long: the next round will tell
                connection.request("POST", blocking, FEATURES, {"content-type": "application/json"})
                time.sleep(HEAD_START)
                found |= pids(url)
                connection.getresponse().read()
        for connection, _ in held:
            connection.close()
    return found


def all_pids(url: str, workers: int, seconds: float) -> set[int]:
    """The workers that have answered when so many have, or no more did for so long."""
    found, deadline = pids(url), time.monotonic() + seconds
    while len(found) < workers and time.monotonic() < deadline:
        time.sleep(0.05)
        found |= pids(url)
    return found


@contextmanager
def spread(url: str, workers: int, connections: int) -> Iterator[Connections]:
    """So many open connections, of which each worker holds the same number: the first worker's, then the second's, ...

    Raises `Inconclusive` when the system hands out its connections too unevenly.
    """
    each = connections // workers
    held: dict[int, Connections] = {}
    surplus: Connections = []
    try:
        for _ in range(BATCHES):
            for connection, pid in _batch(url):
                mine = held.setdefault(pid, [])
                (mine if len(mine) < each else surplus).append(connection)
            if sum(len(mine) == each for mine in held.values()) >= workers:
                break
        else:
            counts = sorted((len(mine) for mine in held.values()), reverse=True)
            raise Inconclusive(f"of {BATCH * BATCHES} connections {counts} went to the workers, at most {each} counted")
        for connection in surplus:
            connection.close()
        yield [connection for mine in held.values() for connection in mine]
    finally:
        for connection in [*surplus, *(connection for mine in held.values() for connection in mine)]:
            connection.close()


def rate(connections: Sequence[HTTPConnection], path: str, each: int) -> float:
    """Requests/s of a closed loop, over all connections at once, on each so many requests.

    Raises a `LearnerError` for an answer that is no 200, and `LostAnswer` where none came.
    """

    def work(connection: HTTPConnection) -> None:
        for _ in range(each):
            answer = ask(connection, "POST", path, FEATURES)
            if answer.status != 200:
                raise _not_answered(f"POST {path}", len(connections), answer)

    with ThreadPoolExecutor(len(connections)) as pool:
        started = time.perf_counter()
        list(pool.map(work, connections))
        return len(connections) * each / (time.perf_counter() - started)


def _batch(url: str) -> list[tuple[HTTPConnection, int]]:
    """New connections, each with the pid of the worker that took it."""
    where = urlsplit(url)
    opened = [HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT) for _ in range(BATCH)]
    for connection in opened:
        with suppress(OSError):  # asking it will try again, and say why not
            connection.connect()
    found = []
    for connection in opened:
        answer = ask(connection, "GET", "/health")
        if answer.pid:
            found.append((connection, answer.pid))
            continue
        connection.close()
        if answer.status is not None:
            raise _not_answered("GET /health", len(opened), answer)
        # Of a worker that is just starting or ending: the next batch will tell.
    return found


def _not_answered(asked: str, connections: int, answer: Answer) -> LearnerError:
    """A request that got something else than a 200 over one of several connections."""
    if answer.status == 200:
        return LearnerError(
            f"{asked} answered {cut(answer.text)}", wanted='the "pid" of the process that answers, as in 1.1'
        )
    if answer.status == 503 and answer.text == "Service Unavailable":  # which is uvicorn's own
        return LearnerError(
            f"over {connections} connections {asked} gave 503: {cut(answer.text)}",
            wanted="200: an open connection is not load",
            hint="`limit_concurrency` counts open connections, idle ones too: leave it out. The admission control of "
            "4.5 counts requests.",
        )
    if answer.status is None:
        return LostAnswer(f"{asked} gave no answer ({answer.error!r})", wanted="200")
    hint = (
        "The service itself raised: exercise 1 (1.1) shows the exception with its line." if answer.status == 500 else ""
    )
    return LearnerError(f"{asked} gave {answer.status}: {cut(answer.text)}", wanted="200", hint=hint)
