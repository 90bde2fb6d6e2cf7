"""Sends requests over one HTTP/1.1 connection: the hot path of the load generator, on httptools."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import httptools

from checks.harness.load.trace import Piece

IDLE = -1
"""In place of a request's number: the connection carries none."""


class Load(Protocol):
    """What a connection needs of its load: see `loops.Load`."""

    wire: Callable[[int], bytes]
    keep_bodies: bool
    keep_pieces: bool
    alive: int

    def answered(self, connection: Connection, now: float, /) -> None:
        """Take note of a whole answer, whose last byte came now."""

    def broken(self, connection: Connection, words: str, /) -> None:
        """Take note of a request that gets no whole answer."""

    def lost(self, connection: Connection, error: Exception | None, /) -> None:
        """Take note of a closed connection."""


class Connection(asyncio.Protocol):
    """One TCP connection, which carries one request at a time: the hot path, kept to one parser callback."""

    # fmt: off
    __slots__ = ("begun", "body", "came", "chunks", "done", "keep_alive", "load", "name", "number", "on_body", "parser",
                  "pieces", "raw", "scheduled", "sent", "status", "transport", "wire")
    # fmt: on

    transport: asyncio.Transport
    on_body: Callable[[bytes], None]

    def __init__(self, load: Load) -> None:
        self.load, self.wire = load, load.wire
        self.number, self.name, self.status = IDLE, IDLE, 0
        self.scheduled = self.sent = self.came = 0.0
        self.body: bytes | None = None
        self.begun = self.done = self.keep_alive = False
        self.raw: list[bytes] = []
        self.chunks: list[bytes] = []
        self.pieces: list[Piece] = []
        if load.keep_pieces:
            self.on_body = self.note_piece
        elif load.keep_bodies:
            # The parser calls only what it finds: without this every piece of a body costs no call.
            self.on_body = self.chunks.append
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, which has a socket now."""
        self.transport = transport  # type: ignore[assignment]  # TCP: always a full Transport
        self.load.alive += 1

    def send(self, number: int, scheduled: float, now: float) -> None:
        """Send a request."""
        self.number, self.scheduled, self.sent = number, scheduled, now
        self.begun = False
        self.transport.write(self.wire(number))

    def data_received(self, data: bytes) -> None:
        """Parse a piece of an answer."""
        self.came = now = perf_counter()
        if self.number == IDLE:
            self.transport.close()  # an unrequested answer would be taken for the next one
            return
        self.begun = True
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.keep_alive = False
            if not self.done:
                self.load.broken(self, "the answer is not HTTP")
                return
        if self.done:
            self.load.answered(self, now)
        else:
            self.raw.append(data)

    def note_piece(self, data: bytes) -> None:
        """Keep a piece of a body with the moment in which it came; the parser calls this."""
        self.pieces.append((self.came, data))

    def on_message_complete(self) -> None:
        """Note an answer that is whole; the parser calls this."""
        status = self.parser.get_status_code()
        if self.done:  # a second answer to one request: what follows belongs to nothing
            self.keep_alive = False
        elif status >= 200:  # 1xx only announces the answer
            self.status, self.keep_alive, self.done = status, self.parser.should_keep_alive(), True
            if self.load.keep_bodies:
                self.body = b"".join(self.chunks)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the loss to the load, which decides what it means for a request on its way."""
        self.load.lost(self, exc)


def ends_at_eof(raw: bytes) -> bool:
    """Whether an answer's body is what comes until the end of the connection (RFC 9112, 6.3), and its head is whole."""
    while raw[9:10] == b"1":  # HTTP/1.1 1xx only announces the answer
        _, _, raw = raw.partition(b"\r\n\r\n")
    head, gap, _ = raw.partition(b"\r\n\r\n")
    return bool(gap) and not re.search(rb"\n(content-length|transfer-encoding)\s*:", head, re.IGNORECASE)
