"""An answer that was lost over an open connection: the service's doing on an idle machine alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from checks.harness.errors import Inconclusive, LostAnswer
from checks.harness.machine import FairClock
from checks.harness.processes import workers
from checks.support.ex4 import deployment
from tests.threaded_server import Server, answer, read_request, serving


def close_after_one(peer: socket.socket, server: Server) -> None:
    """As one of four workers answer the first request, and close the connection at the second."""
    worker = server.connections % deployment.WORKERS
    read_request(peer)
    peer.sendall(answer(b'{"pid": %d}' % (1000 + worker)))
    read_request(peer)


@pytest.fixture
def closing() -> Iterator[Any]:
    """A service that does so, and prints nothing."""
    with serving(close_after_one) as server:
        yield SimpleNamespace(url=server.url, output=lambda: "")


@pytest.mark.parametrize(("busy", "raised"), [(True, Inconclusive), (False, LostAnswer)])
def test_a_lost_answer_is_no_mistake_on_a_busy_machine(
    busy: bool, raised: type[Exception], closing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uvicorn closes a connection that was idle for 5 s, as one is on a machine that is busy enough."""
    monkeypatch.setattr(FairClock, "busy", property(lambda self: busy))

    with pytest.raises(raised, match="open connection" if busy else "POST /predict/blocking gave no answer"):
        deployment.rate_of(closing, FairClock())


def test_a_closed_connection_tells_nothing_of_the_workers(closing: Any) -> None:
    """All who have answered are found, and none raises."""
    assert workers.pids_beside(closing.url, "/predict/blocking", 2) == {1000, 1001, 1002, 1003}
