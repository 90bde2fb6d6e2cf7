"""Small servers for a test: a thread for every connection, and a function that talks to it as it likes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

LIMIT = 60.0
"""Seconds until a thread that is stuck fails its test: none ever waits for that long."""


def answer(content: bytes = b"", *, status: int = 200, headers: bytes = b"") -> bytes:
    """A whole answer with a length."""
    return b"HTTP/1.1 %d X\r\n%scontent-length: %d\r\n\r\n%s" % (status, headers, len(content), content)


def read_request(peer: socket.socket) -> bytes | None:
    """The body of the next request on a connection, None at its end."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := peer.recv(65536)):
            return None
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length: ")
    missing = int(length.split(b"\r\n")[0] or 0) - len(body)
    while missing > 0:
        body += (piece := peer.recv(missing))
        missing -= len(piece)
    return body


class Server:
    """Runs `talk(peer, server)` in a thread for every connection; counts connections."""

    def __init__(self, talk: Talk) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = ("127.0.0.1", self.listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.address[1]}/"
        self.talk = talk
        self.peers: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.connections = 0
        self.heard = threading.Event()
        self.leave = threading.Event()

    def accept(self) -> None:
        """Give every connection a thread, until the listener is closed."""
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            peer.settimeout(LIMIT)
            self.peers.append(peer)
            self.start(partial(self.serve, peer))

    def serve(self, peer: socket.socket) -> None:
        """Talk to one client, who may hang up."""
        with peer, contextlib.suppress(OSError):
            self.talk(peer, self)

    def start(self, call: Callable[[], None]) -> None:
        """Call in a thread that is joined at the end."""
        thread = threading.Thread(target=call)
        self.threads.append(thread)
        thread.start()

    def go_away(self) -> None:
        """Stop listening and drop all connections."""
        self.leave.set()
        with contextlib.suppress(OSError):  # wakes accept() up, where the platform allows it
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)


Talk = Callable[[socket.socket, Server], None]


@contextlib.contextmanager
def serving(talk: Talk) -> Iterator[Server]:
    """A server on a port of its own, gone at the end with all its threads."""
    server = Server(talk)
    server.start(server.accept)
    try:
        yield server
    finally:
        server.go_away()
        for thread in server.threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in server.threads), "a thread of the test's server is stuck"
