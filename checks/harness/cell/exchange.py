"""Sends one request through an ASGI app and records each message, which httpx's transport buffers or hides."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from checks.harness.cell.stacks import Lines, called_from
from checks.harness.errors import LearnerError

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


CALLERS = 40
"""Lines of a stack that are kept at most: those of a middleware come before those of a response."""
LINGERS = 0.2
"""Seconds after its client has left in which a `send` that waits does not return: an app has to notice that itself."""


class Exchange:
    """A request, and what the app has sent so far. Times are `time.perf_counter()` seconds.

    Attributes:
        status: of the answer, None before it began.
        headers: of the answer, names in lower case; the values of one that comes several times with commas between.
        fields: the same as they came.
        chunks: each piece of the body that is not empty, with the time at which it left the app.
        finished: when the last message of the body left, None before.
        noted: whether `senders` and `receiver` are kept, which each message pays for.
        senders: for each message "head", "piece" or "end" (one of the body that is empty), and the lines that sent it.
        receiver: the lines that asked for a message last.
    """

    def __init__(self, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "client": ("127.0.0.1", 50000),
            "server": ("localhost", 80),
        }
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.fields: list[tuple[bytes, bytes]] = []
        self.chunks: list[tuple[float, bytes]] = []
        self.finished: float | None = None
        self.noted = False
        self.senders: list[tuple[str, Lines]] = []
        self.receiver: Lines = []
        self.moved: Callable[[], None] = lambda: None
        """Called at each message."""
        self.taken: Any = None
        """A model that each message waits for, as for a server that has not taken the one before."""
        self.leaves_after: int | None = None
        """Turns of the loop after which the client leaves."""
        self.raises = False
        """Whether `send` raises an OSError once the client has left, as ASGI 2.4 says."""
        self.gone = False
        """Whether the client has left: what is sent then reaches nobody."""
        self._body, self._asked = body, False
        self._left = asyncio.Event()

    async def run(self, app: App) -> Exchange:
        """Run the app on it until the app returns. Raises what the app raises."""
        self.scope["asgi"]["spec_version"] = "2.4" if self.raises else "2.3"
        leaving = None if self.leaves_after is None else asyncio.ensure_future(self._leave_after(self.leaves_after))
        try:
            await app(self.scope, self._receive, self._send)
        finally:
            if leaving:
                leaving.cancel()
        return self

    def leave(self) -> None:
        """Close the connection, as a client does that has gone. Call it on the loop's own thread."""
        self.gone = True
        self._left.set()

    async def _leave_after(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        self.leave()

    @property
    def body(self) -> bytes:
        """What of the body has left so far."""
        return b"".join(piece for _, piece in self.chunks)

    async def _receive(self) -> Message:
        if self.noted:
            self.receiver = called_from(sys._getframe(1), CALLERS)
        if self._asked:
            await self._left.wait()  # its client stays until the end, or leaves
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if self.gone:
            self._send_to_the_gone()
            return
        now = time.perf_counter()
        if self.noted:
            kind = "head" if message["type"] == "http.response.start" else "piece" if message.get("body") else "end"
            self.senders.append((kind, called_from(sys._getframe(1), CALLERS)))
        assert_bytes(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.fields = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            for name, value in self.fields:
                field = name.decode("latin-1").lower()
                self.headers[field] = ", ".join(filter(None, [self.headers.get(field), value.decode("latin-1")]))
        elif message["type"] == "http.response.body":
            if body := message.get("body"):
                self.chunks.append((now, bytes(body)))
            if not message.get("more_body"):
                self.finished = now
                self._left.set()
        self.moved()
        if self.taken is not None:
            await self._until_taken()

    async def _until_taken(self) -> None:
        """Wait as a server does whose client reads slowly: until it has read, or a little longer than until it left."""
        taking, leaving = asyncio.ensure_future(self.taken.predict([1.0])), asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait([taking, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            taking.cancel()
            leaving.cancel()
        if self.gone:
            self._send_to_the_gone()
            await asyncio.sleep(LINGERS)

    def _send_to_the_gone(self) -> None:
        if self.raises:
            raise OSError("the client has left")


def assert_bytes(message: Message) -> None:
    """Raise `LearnerError` for a header that is no pair of bytes: a server refuses it, httpx's transport does not."""
    for field in message.get("headers", ()):
        if not all(isinstance(part, bytes) for part in field):
            raise LearnerError(
                f"a header was sent as {field!r}",
                wanted="a pair of bytes, as in ASGI",
                hint='`(b"server-timing", value.encode())`.',
            )
