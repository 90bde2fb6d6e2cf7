"""An answer that was lost over an open connection: the service's doing on an idle machine alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from checks.harness.errors import Inconclusive, LostAnswer
from checks.harness.machine import FairClock
from checks.harness.processes import workers
from checks.harness.processes.servers import Server
from checks.support.ex4 import deployment

HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"


class Closing:
    """A service whose four workers answer GET /health, and close the connection at the next request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def output(self) -> str:
        """It prints nothing."""
        return ""

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=self._answer, args=(connection, number % deployment.WORKERS), daemon=True).start()

    def _answer(self, connection: socket.socket, worker: int) -> None:
        with connection:
            if connection.recv(65536):
                body = b'{"pid": %d}' % (1000 + worker)
                connection.sendall(HEALTH % (len(body), body))
                connection.recv(1)

    def close(self) -> None:
        """Listen no longer."""
        self._listener.close()


@pytest.fixture
def closing() -> Iterator[Server]:
    """Such a service."""
    server = Closing()
    yield cast("Server", server)
    server.close()


@pytest.mark.parametrize(("busy", "raised"), [(True, Inconclusive), (False, LostAnswer)])
def test_a_lost_answer_is_no_mistake_on_a_busy_machine(
    busy: bool, raised: type[Exception], closing: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uvicorn closes a connection that was idle for 5 s, as one is on a machine that is busy enough."""
    monkeypatch.setattr(FairClock, "busy", property(lambda self: busy))

    with pytest.raises(raised, match="open connection" if busy else "POST /predict/blocking gave no answer"):
        deployment.rate_of(closing, FairClock())


def test_a_closed_connection_tells_nothing_of_the_workers(closing: Server) -> None:
    """All who have answered are found, and none raises."""
    assert workers.pids_beside(closing.url, "/predict/blocking", 2) == {1000, 1001, 1002, 1003}
