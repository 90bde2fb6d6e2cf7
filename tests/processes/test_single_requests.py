"""The small HTTP client: an answer in every case, also where none came."""

from __future__ import annotations

import socket
import threading
import time
from http.client import HTTPConnection

from checks.harness.processes.single_requests import FEATURES, ask, ask_once, ask_together
from tests.threaded_server import Server, answer, read_request, serving


def echo(peer: socket.socket, _: Server) -> None:
    """Answer each request with its body, or with a pid where it has none."""
    while (body := read_request(peer)) is not None:
        peer.sendall(answer(body or b'{"pid": 4711}'))


def test_an_answer_has_status_text_and_pid() -> None:
    """Also over a connection that is used again."""
    with serving(echo) as server:
        connection = HTTPConnection(*server.address, timeout=30)
        got, posted = ask(connection, "GET", "/health"), ask(connection, "POST", "/predict", FEATURES)
        connection.close()

    assert (200, 4711) == (got.status, got.pid)
    assert (200, FEATURES.decode(), None) == (posted.status, posted.text, posted.pid)
    assert server.connections == 1


def test_all_connections_are_open_before_the_first_request() -> None:
    """So that several workers take them."""
    all_here = threading.Barrier(8, timeout=30)

    def talk(peer: socket.socket, _: Server) -> None:
        all_here.wait()
        read_request(peer)
        peer.sendall(answer())

    with serving(talk) as server:
        answers = ask_together(server.address, "/", 8, time.monotonic() + 30)

    assert [200] * 8 == [one.status for one in answers]


def test_no_answer_is_an_answer_with_an_error() -> None:
    """A port where nothing listens, and a server that hangs up."""
    with serving(lambda peer, _: None) as server:
        assert ask_once(server.address, "/", 30).status is None
    refused = ask_once(server.address, "/", 30)

    assert refused.status is None
    assert isinstance(refused.error, ConnectionError)
    assert [None] == [one.status for one in ask_together(server.address, "/", 1, time.monotonic() + 5)]
