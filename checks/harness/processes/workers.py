"""Connections spread evenly over the workers of a service, and what they get: workers share a port, not connections."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

from checks.harness.errors import Inconclusive

BATCH = 32
"""Connections that are opened before the first is asked: one after the other, the same worker may take each of them."""
BATCHES = 20
TIMEOUT = 60.0
HEAD_START = 0.1
"""Seconds in which a request gets from its connection into its handler."""
FEATURES = b'{"features": [1.0, 2.0, 6.0]}'

Connections = list[http.client.HTTPConnection]


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
    """So many open connections, of which each worker holds the same number.

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


def rate(connections: Sequence[http.client.HTTPConnection], path: str, each: int) -> float:
    """Requests/s of a closed loop, over all connections at once, on each so many requests.

    Raises an `AssertionError` for an answer that is no 200.
    """

    def work(connection: http.client.HTTPConnection) -> None:
        for _ in range(each):
            status, text = _ask(connection, "POST", path, FEATURES)
            assert status == 200, f"POST {path} gave {status}: {text[:60]}\nwanted: 200"

    with ThreadPoolExecutor(len(connections)) as pool:
        started = time.perf_counter()
        list(pool.map(work, connections))
        return len(connections) * each / (time.perf_counter() - started)


def _batch(url: str) -> list[tuple[http.client.HTTPConnection, int]]:
    """New connections, each with the pid of the worker that took it."""
    where = urlsplit(url)
    opened = [http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT) for _ in range(BATCH)]
    for connection in opened:
        connection.connect()
    found = []
    for connection in opened:
        try:
            _, text = _ask(connection, "GET", "/health", None)
            found.append((connection, int(json.loads(text)["pid"])))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            connection.close()  # of a worker that is just starting or ending: the next batch will tell
    return found


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> tuple[int, str]:
    connection.request(method, path, body, {"content-type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")
