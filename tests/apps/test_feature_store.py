"""The feature store of the checks: what it counts, and how it misbehaves on demand."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from checks.harness.apps.feature_store import Store, running_store, store_that_is_full
from tests.waiting import until


@pytest.fixture
def store() -> Iterator[Store]:
    """A store that knows one user."""
    with running_store() as store:
        store.users = {7: [1.0, 2.0, 6.0]}
        yield store


def client(store: Store) -> httpx.Client:
    """A client of its own."""
    return httpx.Client(base_url=store.url, timeout=None, trust_env=False)


def closed(store: Store) -> bool:
    """All connections are closed, soon after there has been one."""
    return until(lambda: bool(store.accepted) and store.open == 0, "the end of all connections")


def test_it_answers_what_it_knows(store: Store) -> None:
    """A user's features, and 404 for anybody else and any other path."""
    with client(store) as asking:
        answers = [asking.get(path) for path in ("/features/7", "/features/8", "/features/x", "/")]

    assert {"features": [1.0, 2.0, 6.0]} == answers[0].json()
    assert [200, 404, 404, 404] == [answer.status_code for answer in answers]
    assert ["/features/7", "/features/8", "/features/x", "/"] == store.asked


def test_it_counts_connections(store: Store) -> None:
    """One for many calls of one client, one more for another, none when both have left."""
    with client(store) as one, client(store) as other:
        for asking in (one, one, one, other):
            asking.get("/features/7")

        assert (2, 2) == (store.accepted, store.open)

    assert closed(store)
    assert store.accepted == 2


def test_a_caller_who_breaks_off_is_no_open_connection(store: Store) -> None:
    """Half a request and a closed socket leave nothing behind."""
    port = int(store.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(b"GET /fea")

    assert closed(store)


@pytest.mark.parametrize("status", [204, 302, 429, 500])
def test_it_gives_the_reply_that_was_set(store: Store, status: int) -> None:
    """Over a connection that is good for the next call."""
    store.replies[7] = (status, '{"features": [1.0]}')
    with client(store) as asking:
        assert [status] * 2 == [asking.get("/features/7").status_code for _ in range(2)]

    assert store.accepted == 1


def test_it_can_be_slow_or_silent(store: Store) -> None:
    """An answer takes so long, or never comes."""
    with client(store) as asking:
        store.seconds = 0.05
        started = time.perf_counter()
        asking.get("/features/7")
        assert time.perf_counter() - started >= 0.05

        store.replies[7] = None
        with pytest.raises(httpx.ReadTimeout):
            asking.get("/features/7", timeout=0.2)

    assert closed(store)


def test_it_can_answer_in_parts(store: Store) -> None:
    """Each read is short, all of them together are not."""
    store.seconds, store.parts = 0.05, 6
    with client(store) as asking:
        started = time.perf_counter()
        answer = asking.get("/features/7")

        assert time.perf_counter() - started >= 6 * 0.05
        assert answer.json() == {"features": [1.0, 2.0, 6.0]}


def test_a_store_that_is_full_lets_nobody_connect() -> None:
    """Not even one more; where the system refuses such connections in place of letting them hang, there is none."""
    with store_that_is_full() as url, socket.socket() as caller:
        if url is None:
            pytest.skip("this system refuses them")
        caller.settimeout(0.3)
        with pytest.raises(TimeoutError):
            caller.connect(("127.0.0.1", int(url.rpartition(":")[2])))
