"""The closed and the open loop: which connection sends when, and what becomes of every request."""

from __future__ import annotations

import asyncio
import errno
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from checks.harness.load.sending import IDLE, Connection, ends_at_eof
from checks.harness.load.trace import Request, Trace

BACK_OFF = 0.05
"""Seconds after an error until a closed loop tries again, so that it does not flood a dead server."""
SWEEP = 0.05
"""Seconds between two looks for requests past their timeout: a timer per request would cost more."""
TOLD = 0.1
"""Seconds between two calls of what watches a load."""

Live = Callable[[float, list[Request]], None]
"""What watches a load: it gets the start (`time.perf_counter()` seconds), and what has ended since its last call.

It runs on the generator's own loop: what takes long in it delays requests. What it raises ends the load.
"""


class Keep(NamedTuple):
    """What is kept of answers: their bodies, or in the place of those the pieces as they came."""

    bodies: bool
    pieces: bool


def run(make: Callable[[], Load], live: Live | None = None) -> Trace:
    """Run a load, made on its own event loop, to its end."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        load = runner.run(_drive(make, live))
    # Not in the coroutine: the runner's signal handling calls repr() on what that returns, twice.
    load.records.sort()
    requests = tuple(Request(*fields) for _, *fields in load.records)
    return Trace(requests, load.started, load.ended, tuple(load.lags))


async def _drive(make: Callable[[], Load], live: Live | None) -> Load:
    load = make()
    load.live = live
    # What goes wrong in a callback (a function that makes bodies, say) ends the load instead of being logged.
    load.loop.set_exception_handler(lambda _, context: load.fail(context))
    try:
        await load.run()
    finally:
        await load.close()
    return load


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Load(ABC):
    """What both loops share: opening, recording, giving up. Every issued request is recorded exactly once."""

    def __init__(self, url: str, wire: Callable[[int], bytes], timeout: float, keep: Keep, limit: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.wire, self.timeout, self.limit = wire, timeout, limit
        self.keep_bodies, self.keep_pieces = keep
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self.loop.create_future()
        self.records: list[tuple[Any, ...]] = []  # numbers and Requests' fields: building those can wait for the end
        self.lags: list[float] = []
        self.backlog: deque[tuple[int, float]] = deque()  # numbers and times of requests that are due and not sent
        self.issued = self.opened = self.opening = self.alive = 0
        self.open: set[Connection] = set()
        self.attempts: set[asyncio.Task[None]] = set()
        self.started = self.ended = 0.0
        self.live: Live | None = None
        self.told = 0  # of the records

    @abstractmethod
    async def begin(self) -> None:
        """Set `started`, and send the first requests."""

    @abstractmethod
    def exhausted(self) -> bool:
        """Whether no further request is to be issued."""

    @abstractmethod
    def free(self, connection: Connection, now: float) -> None:
        """Give an open connection its next request, if there is one."""

    @abstractmethod
    def replace(self) -> None:
        """Replace a connection that is gone."""

    @abstractmethod
    def unreachable(self, words: str, began: float) -> None:
        """Let one request fail, because the connection attempted since `began` could not be opened."""

    async def run(self) -> None:
        """Run until every request issued has its record."""
        await self.begin()
        self.sweep()
        if self.live:
            self.loop.call_later(TOLD, self.tell, self.live)
        await self.over
        self.ended = perf_counter()

    async def close(self) -> None:
        """Close whatever is still open or opening."""
        for attempt in self.attempts:
            attempt.cancel()
        await asyncio.gather(*self.attempts, return_exceptions=True)
        for connection in list(self.open):
            self.retire(connection)
        for _ in range(100):  # an aborted transport takes a few rounds of the loop to close its socket
            if not self.alive:
                break
            await asyncio.sleep(0)

    def fail(self, context: dict[str, Any]) -> None:
        """End with the error that a callback raised."""
        if not self.over.done():
            self.over.set_exception(context.get("exception") or RuntimeError(context["message"]))

    def settle(self) -> None:
        """End if nothing is left to do."""
        if len(self.records) == self.issued and self.exhausted() and not self.over.done():
            self.over.set_result(None)

    def sweep(self) -> None:
        """Give up what has waited too long, and look again in `SWEEP` seconds."""
        now = perf_counter()
        for connection in [c for c in self.open if c.number != IDLE and now - c.scheduled > self.timeout]:
            self.broken(connection, f"no answer within {self.timeout:g} s")
        while self.backlog and now - self.backlog[0][1] > self.timeout:
            self.unsent(*self.backlog.popleft(), f"no free connection within {self.timeout:g} s")
        self.settle()
        self.loop.call_later(SWEEP, self.sweep)

    def tell(self, live: Live) -> None:
        """Show what has ended since the last time, and again in `TOLD` seconds."""
        new = self.records[self.told :]
        self.told += len(new)
        live(self.started, [Request(*fields) for _, *fields in new])
        self.loop.call_later(TOLD, self.tell, live)

    def attempt(self) -> None:
        """Start to open one more connection."""
        if not self.over.done():
            self.opening += 1
            task = self.loop.create_task(self.connect())
            self.attempts.add(task)
            task.add_done_callback(self.attempts.discard)

    async def connect(self) -> None:
        """Open a connection and give it work, or let a request fail that could not get one."""
        began, words = perf_counter(), "connection closed without an answer"
        try:
            async with asyncio.timeout(self.timeout):
                _, connection = await self.loop.create_connection(lambda: Connection(self), self.host, self.port)
        except TimeoutError:
            connection, words = None, f"no connection within {self.timeout:g} s"
        except OSError as error:
            connection, words = None, _words(error)
        self.opening -= 1
        if connection is None or connection.transport.is_closing():
            self.unreachable(words, began)
        else:
            connection.name = self.opened
            self.opened += 1
            self.open.add(connection)
            self.free(connection, perf_counter())

    def answered(self, connection: Connection, now: float) -> None:
        """Record an answer, and go on."""
        c = connection
        self.records.append((c.number, c.scheduled, c.sent, now, c.status, None, c.name, c.body, None, tuple(c.pieces)))
        if c.raw or c.chunks or c.pieces:
            c.raw.clear()
            c.chunks.clear()
            c.pieces.clear()
        c.done = False
        if c.keep_alive:
            c.number = IDLE
            self.free(c, now)
        else:
            self.retire(c)
            self.replace()
            self.settle()

    def broken(self, connection: Connection, words: str) -> None:
        """Record that a request was sent and got no answer, and replace its connection."""
        c = connection
        status = (c.begun and c.parser.get_status_code()) or None
        now = perf_counter()
        self.records.append((c.number, c.scheduled, c.sent, None, status, words, c.name, None, now, tuple(c.pieces)))
        self.retire(c)
        self.loop.call_later(BACK_OFF, self.replace)
        self.settle()

    def unsent(self, number: int, scheduled: float, words: str) -> None:
        """Record a request that never got a connection."""
        self.records.append((number, scheduled, None, None, None, words, IDLE, None, perf_counter()))
        self.settle()

    def retire(self, connection: Connection) -> None:
        """Close a connection for good."""
        self.open.discard(connection)
        connection.number = IDLE
        connection.transport.abort()

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """Decide what a closed connection means: idle, the end of a body, or an error."""
        self.alive -= 1
        if connection not in self.open:
            return
        if connection.number == IDLE:
            self.retire(connection)
            self.replace()
        elif error is None and ends_at_eof(b"".join(connection.raw)):
            connection.on_message_complete()
            connection.keep_alive = False
            self.answered(connection, perf_counter())
        elif error is not None:
            self.broken(connection, _words(error))
        else:
            where = "in the middle of the answer" if connection.begun else "without an answer"
            self.broken(connection, f"connection closed {where}")


class ClosedLoop(Load):
    """Each of `limit` places is at any time sending, opening its connection, pausing after an error, or done."""

    def __init__(self, *shared: Any, seconds: float | None, requests: int | None) -> None:
        super().__init__(*shared)
        self.seconds = math.inf if seconds is None else seconds
        self.requests = math.inf if requests is None else requests
        self.until = math.inf
        self.failed: list[str] = []

    async def begin(self) -> None:
        for _ in range(self.limit):
            self.attempt()
        await asyncio.gather(*self.attempts)
        self.started = perf_counter()
        self.until = self.started + self.seconds
        missing = self.limit - len(self.open) - len(self.failed)
        for connection in list(self.open):
            if not connection.transport.is_closing():
                self.free(connection, perf_counter())
        for words in self.failed:
            self.unreachable(words, self.started)
        for _ in range(missing):
            self.attempt()

    def exhausted(self) -> bool:
        return perf_counter() >= self.until or self.issued >= self.requests

    def free(self, connection: Connection, now: float) -> None:
        if self.started and now < self.until and self.issued < self.requests:
            self.issued += 1
            connection.send(self.issued - 1, now, now)
        else:
            self.settle()

    def replace(self) -> None:
        if self.started and not self.exhausted():
            self.attempt()

    def unreachable(self, words: str, began: float) -> None:
        if not self.started:
            self.failed.append(words)
        elif not self.exhausted():
            self.issued += 1
            self.unsent(self.issued - 1, began, words)
            self.loop.call_later(BACK_OFF, self.replace)


class OpenLoop(Load):
    """Requests that are due wait in `backlog` for the next idle or new connection, at most `limit` of those."""

    def __init__(self, *shared: Any, times: Sequence[float]) -> None:
        super().__init__(*shared)
        self.times = times
        self.idle: deque[Connection] = deque()

    async def begin(self) -> None:
        self.started = perf_counter()
        self.times = [self.started + time for time in self.times]
        self.dispatch()

    def exhausted(self) -> bool:
        return self.issued == len(self.times)

    def dispatch(self) -> None:
        """Send what is due, and come back when the next is."""
        now = perf_counter()
        while self.issued < len(self.times) and (due := self.times[self.issued]) <= now:
            self.lags.append(now - due)
            self.backlog.append((self.issued, due))
            self.issued += 1
        self.replace()
        if self.issued < len(self.times):
            self.loop.call_later(max(self.times[self.issued] - perf_counter(), 0), self.dispatch)

    def replace(self) -> None:
        while self.backlog and self.idle:
            connection = self.idle.popleft()
            if connection in self.open and not connection.transport.is_closing():
                connection.send(*self.backlog.popleft(), perf_counter())
        waiting = len(self.backlog) - self.opening
        for _ in range(min(waiting, self.limit - len(self.open) - self.opening)):
            self.attempt()

    def free(self, connection: Connection, now: float) -> None:
        if self.backlog:
            connection.send(*self.backlog.popleft(), now)
        else:
            self.idle.append(connection)
            self.settle()

    def unreachable(self, words: str, began: float) -> None:
        if self.backlog and self.backlog[0][1] <= began:
            self.unsent(*self.backlog.popleft(), words)
        self.replace()


def _words(error: Exception) -> str:
    # A name with several addresses, such as localhost, gives one error with all of theirs in its text.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused"
    if isinstance(error, ConnectionError):
        return "connection reset"
    return (getattr(error, "strerror", None) or str(error)).lower()
