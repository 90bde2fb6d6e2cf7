"""Closed-loop and open-loop load on an HTTP/1.1 service: what was scheduled, sent and answered, request by request."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import pickle
import random
import re
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, ParamSpec
from urllib.parse import urlsplit

import httptools

from checks.harness.trace import Request, Trace

Body = bytes | Sequence[bytes] | Callable[[int], bytes] | None
Headers = Iterable[tuple[str, str]]
Arrivals = Literal["poisson", "constant"]
P = ParamSpec("P")

BACK_OFF = (
    0.05  # seconds before a connection of a closed loop is tried again after an error: a dead server meets no storm
)
SWEEP = 0.05  # seconds between two looks for requests past their timeout: a timer per request would cost more
START_UP = 60.0  # seconds that a process of its own may take beside its load, on a very busy machine
IDLE = -1  # in place of a request's number: the connection carries none
ROOT = Path(__file__).parents[2]  # where `checks` can be imported from


def closed_loop(
    url: str,
    *,
    connections: int,
    seconds: float | None = None,
    requests: int | None = None,
    method: str = "POST",
    body: Body = None,
    headers: Headers = (),
    timeout: float = 10.0,
    keep_bodies: bool = False,
) -> Trace:
    """Send over `connections` keep-alive connections, on each the next request as soon as the last one was answered.

    All connections are opened before the first request. No request is sent after `seconds`, or after `requests` in
    total, whichever comes first; those in flight are waited for. `body` is the same bytes for every request, or bytes
    taken in turn from a list, or made by a function of the request's number (from 0, its place in the trace).
    A request that got no whole answer within `timeout` seconds is given up and its connection replaced. `keep_bodies`
    keeps the answers' bodies in the trace.

    Raises:
        ValueError: a plan that cannot be run, such as one without an end.

    """
    if seconds is None and requests is None:
        raise ValueError("a closed loop needs an end: seconds or requests")
    if connections < 1:
        raise ValueError("a load needs at least one connection")
    wire = _wire(url, method, body, headers, requests)
    return _run(lambda: _ClosedLoop(url, wire, timeout, keep_bodies, connections, seconds=seconds, requests=requests))


def open_loop(
    url: str,
    *,
    rate: float,
    seconds: float,
    seed: int,
    arrivals: Arrivals = "poisson",
    method: str = "POST",
    body: Body = None,
    headers: Headers = (),
    timeout: float = 10.0,
    keep_bodies: bool = False,
    connections: int = 1000,
) -> Trace:
    """Send by a schedule fixed beforehand (`schedule`), however slowly the service answers.

    A request goes out at its scheduled time, never before, on an idle connection or on a new one; once `connections`
    are open it waits, first in first out, for one to become idle. The timeout counts from the scheduled time, as the
    latency does. The other arguments are those of `closed_loop`.

    Raises:
        ValueError: a plan that cannot be run.

    """
    if connections < 1:
        raise ValueError("a load needs at least one connection")
    times = schedule(rate, seconds, seed, arrivals)
    wire = _wire(url, method, body, headers, len(times))
    return _run(lambda: _OpenLoop(url, wire, timeout, keep_bodies, connections, times=times))


def schedule(rate: float, seconds: float, seed: int, arrivals: Arrivals = "poisson") -> list[float]:
    """The times in seconds after the start, all below `seconds`, at which an open loop sends `rate` requests a second.

    "poisson" has exponential gaps, as independent users have, drawn from `seed`; "constant" has equal gaps from 0.

    Raises:
        ValueError: a rate or duration that is not positive, or unknown arrivals.

    """
    if rate <= 0 or seconds <= 0:
        raise ValueError("rate and seconds must be positive")
    if arrivals == "constant":
        # Not i < rate * seconds: 100/s for 0.07 s is 7.000000000000001 in floats, and 7 requests.
        return [i / rate for i in range(round(rate * seconds))]
    if arrivals != "poisson":
        raise ValueError(f'arrivals are "poisson" or "constant", not {arrivals!r}')
    draw = random.Random(seed)
    times = [draw.expovariate(rate)]
    while times[-1] < seconds:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:-1]


def run_apart(load: Callable[P, Trace], *args: P.args, **settings: P.kwargs) -> Trace:
    """Run `closed_loop` or `open_loop` in a process of its own, which shares no event loop and no GIL with the caller.

    The trace's times are on the caller's clock: `time.perf_counter()` is one clock for all processes of a machine. The
    process ends with its load, at the latest after the longest time that its plan can take, and dies with the caller.

    Raises:
        TypeError: `body` is a function, which cannot be handed to another process: give bytes or a list of bytes.
        RuntimeError: the process failed or was too late; its own last words are in the message.

    """
    plan: dict[str, Any] = dict(settings)
    if callable(plan.get("body")):
        raise TypeError("a process of its own takes bytes or a list of bytes as its body, not a function")
    seconds, answer = _longest(plan), b""
    with tempfile.TemporaryFile() as last_words:
        command = [sys.executable, "-m", "checks.harness.traffic"]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=last_words)
        deadline = threading.Timer(seconds, child.kill)
        deadline.start()
        try:
            # Leaving this block closes the child's stdin; were this process killed, the system would. Either ends it.
            with child:
                assert child.stdin is not None
                assert child.stdout is not None
                pickle.dump((load.__name__, args, plan), child.stdin)
                child.stdin.flush()
                answer = child.stdout.read()
        except BrokenPipeError:
            pass  # it ended before it had read its plan: its last words say why
        finally:
            deadline.cancel()
            child.kill()
            child.wait()
        last_words.seek(0)
        if child.returncode != 0:
            words = last_words.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"the load's own process failed with exit code {child.returncode}: {words}")
    trace: Trace = pickle.loads(answer)
    return trace


def _longest(plan: dict[str, Any]) -> float:
    """Seconds that a plan can take at worst: every request on every connection until its timeout."""
    timeout, seconds, requests = plan.get("timeout", 10.0), plan.get("seconds"), plan.get("requests")
    ends = [] if seconds is None else [seconds + 2 * timeout]
    if requests is not None:
        ends.append(timeout + -(-requests // (plan.get("connections") or 1)) * (timeout + BACK_OFF + SWEEP))
    return START_UP + min(ends, default=0.0)


def _wire(url: str, method: str, body: Body, headers: Headers, count: int | None) -> Callable[[int], bytes]:
    """How to get a request's bytes by its number; all are made ahead when their `count` is known."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"a load needs a URL like http://127.0.0.1:8000/predict, not {url!r}")
    fields = {"host": parts.netloc} | ({} if body is None else {"content-type": "application/json"})
    fields |= {name.lower(): value for name, value in headers}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def request(content: bytes) -> bytes:
        length = "" if body is None and method == "GET" else f"content-length: {len(content)}\r\n"
        return f"{head}{length}\r\n".encode("latin-1") + content

    if callable(body):
        make = body
        if count is None:
            return lambda number: request(make(number))
        contents: Sequence[bytes] = [make(number) for number in range(count)]
    elif body is None or isinstance(body, bytes):
        contents = [body or b""]
    elif not (contents := body):
        raise ValueError("a list of bodies must hold at least one")
    ready = [request(content) for content in contents]
    return (lambda _: ready[0]) if len(ready) == 1 else (lambda number: ready[number % len(ready)])


def _run(make: Callable[[], _Load]) -> Trace:
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        load = runner.run(_drive(make))
    # Not in the coroutine: the runner's signal handling calls repr() on what that returns, twice.
    load.records.sort()
    requests = tuple(Request(*fields) for _, *fields in load.records)
    return Trace(requests, load.started, load.ended, tuple(load.lags))


async def _drive(make: Callable[[], _Load]) -> _Load:
    load = make()
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


class _Connection(asyncio.Protocol):
    """One TCP connection, which carries one request at a time: the hot path, kept to one parser callback."""

    # fmt: off
    __slots__ = ("body", "chunks", "done", "first_byte", "keep_alive", "load", "name", "number", "on_body", "parser",
                 "raw", "scheduled", "sent", "status", "transport", "wire")
    # fmt: on

    transport: asyncio.Transport

    def __init__(self, load: _Load) -> None:
        self.load, self.wire = load, load.wire
        self.number, self.name, self.status = IDLE, IDLE, 0
        self.scheduled = self.sent = 0.0
        self.first_byte: float | None = None
        self.body: bytes | None = None
        self.done = self.keep_alive = False
        self.raw: list[bytes] = []
        self.chunks: list[bytes] = []
        if load.keep_bodies:
            # The parser calls only what it finds: without this every piece of a body costs no call.
            self.on_body = self.chunks.append
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP: always a full Transport
        self.load.alive += 1

    def start(self, number: int, scheduled: float, now: float) -> None:
        self.number, self.scheduled, self.sent = number, scheduled, now
        self.first_byte = None
        self.transport.write(self.wire(number))

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        if self.number == IDLE:
            self.transport.close()  # words nobody asked for would be taken for the next answer
            return
        if self.first_byte is None:
            self.first_byte = now
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

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        if self.done:  # a second answer to one request: what follows belongs to nothing
            self.keep_alive = False
        elif status >= 200:  # 1xx only announces the answer
            self.status, self.keep_alive, self.done = status, self.parser.should_keep_alive(), True
            if self.load.keep_bodies:
                self.body = b"".join(self.chunks)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost(self, exc)


class _Load(ABC):
    """What both loops share: opening, recording, giving up. Every issued request is recorded exactly once."""

    def __init__(self, url: str, wire: Callable[[int], bytes], timeout: float, keep_bodies: bool, limit: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.wire, self.timeout, self.keep_bodies, self.limit = wire, timeout, keep_bodies, limit
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self.loop.create_future()
        self.records: list[tuple[Any, ...]] = []  # numbers and Requests' fields: building those can wait for the end
        self.lags: list[float] = []
        self.backlog: deque[tuple[int, float]] = deque()  # numbers and times of requests that are due and not sent
        self.issued = self.opened = self.opening = self.alive = 0
        self.open: set[_Connection] = set()
        self.attempts: set[asyncio.Task[None]] = set()
        self.started = self.ended = 0.0

    @abstractmethod
    async def begin(self) -> None:
        """Set `started` and everything in motion."""

    @abstractmethod
    def exhausted(self) -> bool:
        """Whether no further request is to be issued."""

    @abstractmethod
    def free(self, connection: _Connection, now: float) -> None:
        """Give an open connection its next request, if there is one."""

    @abstractmethod
    def replace(self) -> None:
        """Make up for a connection that is gone."""

    @abstractmethod
    def unreachable(self, words: str, began: float) -> None:
        """Let one request fail, because the connection attempted since `began` could not be had."""

    async def run(self) -> None:
        await self.begin()
        self.sweep()
        await self.over
        self.ended = perf_counter()

    async def close(self) -> None:
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
        if not self.over.done():
            self.over.set_exception(context.get("exception") or RuntimeError(context["message"]))

    def settle(self) -> None:
        if len(self.records) == self.issued and self.exhausted() and not self.over.done():
            self.over.set_result(None)

    def sweep(self) -> None:
        now = perf_counter()
        for connection in [c for c in self.open if c.number != IDLE and now - c.scheduled > self.timeout]:
            self.broken(connection, f"no answer within {self.timeout:g} s")
        while self.backlog and now - self.backlog[0][1] > self.timeout:
            self.unsent(*self.backlog.popleft(), f"no free connection within {self.timeout:g} s")
        self.settle()
        self.loop.call_later(SWEEP, self.sweep)

    def attempt(self) -> None:
        if not self.over.done():
            self.opening += 1
            task = self.loop.create_task(self.connect())
            self.attempts.add(task)
            task.add_done_callback(self.attempts.discard)

    async def connect(self) -> None:
        began, words = perf_counter(), "connection closed without an answer"
        try:
            async with asyncio.timeout(self.timeout):
                _, connection = await self.loop.create_connection(lambda: _Connection(self), self.host, self.port)
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

    def answered(self, connection: _Connection, now: float) -> None:
        c = connection
        self.records.append((c.number, c.scheduled, c.sent, c.first_byte, now, c.status, None, c.name, c.body))
        if c.raw or c.chunks:
            c.raw.clear()
            c.chunks.clear()
        c.done = False
        if c.keep_alive:
            c.number = IDLE
            self.free(c, now)
        else:
            self.retire(c)
            self.replace()
            self.settle()

    def broken(self, connection: _Connection, words: str) -> None:
        c = connection
        status = None if c.first_byte is None else c.parser.get_status_code() or None
        now = perf_counter()
        self.records.append((c.number, c.scheduled, c.sent, c.first_byte, None, status, words, c.name, None, now))
        self.retire(c)
        self.loop.call_later(BACK_OFF, self.replace)
        self.settle()

    def unsent(self, number: int, scheduled: float, words: str) -> None:
        self.records.append((number, scheduled, None, None, None, None, words, IDLE, None, perf_counter()))
        self.settle()

    def retire(self, connection: _Connection) -> None:
        self.open.discard(connection)
        connection.number = IDLE
        connection.transport.abort()

    def lost(self, connection: _Connection, error: Exception | None) -> None:
        self.alive -= 1
        if connection not in self.open:
            return
        if connection.number == IDLE:
            self.retire(connection)
            self.replace()
        elif error is None and _ends_at_eof(b"".join(connection.raw)):
            connection.on_message_complete()
            connection.keep_alive = False
            self.answered(connection, perf_counter())
        elif error is not None:
            self.broken(connection, _words(error))
        else:
            where = "without an answer" if connection.first_byte is None else "in the middle of the answer"
            self.broken(connection, f"connection closed {where}")


class _ClosedLoop(_Load):
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

    def free(self, connection: _Connection, now: float) -> None:
        if self.started and now < self.until and self.issued < self.requests:
            self.issued += 1
            connection.start(self.issued - 1, now, now)
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


class _OpenLoop(_Load):
    """Requests that are due wait in `backlog` for the next idle or new connection, at most `limit` of those."""

    def __init__(self, *shared: Any, times: Sequence[float]) -> None:
        super().__init__(*shared)
        self.times = times
        self.idle: deque[_Connection] = deque()

    async def begin(self) -> None:
        self.started = perf_counter()
        self.times = [self.started + time for time in self.times]
        self.dispatch()

    def exhausted(self) -> bool:
        return self.issued == len(self.times)

    def dispatch(self) -> None:
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
                connection.start(*self.backlog.popleft(), perf_counter())
        waiting = len(self.backlog) - self.opening
        for _ in range(min(waiting, self.limit - len(self.open) - self.opening)):
            self.attempt()

    def free(self, connection: _Connection, now: float) -> None:
        if self.backlog:
            connection.start(*self.backlog.popleft(), now)
        else:
            self.idle.append(connection)
            self.settle()

    def unreachable(self, words: str, began: float) -> None:
        if self.backlog and self.backlog[0][1] <= began:
            self.unsent(*self.backlog.popleft(), words)
        self.replace()


def _ends_at_eof(raw: bytes) -> bool:
    """Whether an answer's body is what comes until the end of the connection (RFC 9112, 6.3), and its head is whole."""
    while raw[9:10] == b"1":  # HTTP/1.1 1xx only announces the answer
        _, _, raw = raw.partition(b"\r\n\r\n")
    head, gap, _ = raw.partition(b"\r\n\r\n")
    return bool(gap) and not re.search(rb"\n(content-length|transfer-encoding)\s*:", head, re.IGNORECASE)


def _words(error: Exception) -> str:
    # A name with several addresses, such as localhost, gives one error with all of theirs in its text.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused"
    if isinstance(error, ConnectionError):
        return "connection reset"
    return (getattr(error, "strerror", None) or str(error)).lower()


def _main() -> None:
    def die_with_parent() -> None:
        os.read(0, 1)  # not sys.stdin: its lock, held by a thread at exit, would crash the interpreter
        os._exit(1)

    name, args, plan = pickle.load(sys.stdin.buffer)
    threading.Thread(target=die_with_parent, daemon=True).start()
    load = closed_loop if name == closed_loop.__name__ else open_loop
    pickle.dump(load(*args, **plan), sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
