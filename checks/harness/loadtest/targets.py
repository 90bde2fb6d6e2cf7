"""Targets of load tests: servers of known capacity, which answer as planned and count what arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from time import perf_counter

import httptools

from checks.harness.background_server import background_server
from checks.harness.errors import cut
from checks.harness.machine import FairClock

LOOK_SECONDS = 0.05
"""Seconds between two looks at how late this machine lets a target be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a request: its service time in seconds (`math.inf`: never answered), and the answer then."""

    seconds: float
    status: int = 200
    right: bool = True
    """The mean of the features, or another number."""
    off: float = 1.0
    """How far a wrong number is from the mean: 1 to 1.5 times this part of the mean (of 1.0 where the mean is less)."""
    kind: str = "right"
    """In words, for the card."""


@dataclass(frozen=True, slots=True)
class Service:
    """How a target behaves: plain data, so that runs against different targets are kept apart.

    `answers` are dealt to the requests like a deck of cards, again and again, shuffled each time if there is a `seed`;
    or, `by_connection`, one to each connection in turn. At most `slots` requests are served at a time (`None`: all),
    first come first served. Requests that arrive within `stall`, (from, to) in seconds after the first, wait for its
    end.
    """

    answers: tuple[Answer, ...]
    seed: int | None = None
    slots: int | None = None
    by_connection: bool = False
    exact: bool = True
    """Means to the last digit, or as another order of additions gives them in floating point."""
    stall: tuple[float, float] = (0.0, 0.0)


@dataclass(slots=True)
class Arrival:
    """One request as the target saw it; times are `time.perf_counter()` seconds, `finished` is None until then."""

    number: int
    connection: int
    method: str
    path: str
    problem: str
    """Why it is no valid request for a prediction: empty for one that is."""
    body: str
    answer: Answer | None
    """What was dealt to it; None where there is a problem."""
    in_flight: int
    """How many requests there were, this one included, when it arrived."""
    arrived: float
    finished: float | None = None


@dataclass
class Target:
    """A target that runs. `arrivals` grow while it does.

    `lags` are when its own event loop was due to wake, by `time.perf_counter()`, and the seconds by which it woke too
    late. `clock` measures how busy the machine is.
    """

    service: Service
    port: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)
    clock: FairClock = field(default_factory=FairClock)
    connections: int = 0
    in_flight: int = 0

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def target(service: Service) -> Iterator[Target]:
    """Run a target on a thread of this process while the body runs; it takes a free port of 127.0.0.1."""
    running = Target(service)

    async def listen() -> asyncio.Server:
        loop, desk = asyncio.get_running_loop(), _Desk(running)
        desk.tasks.add(loop.create_task(_watch(running)))
        return await loop.create_server(lambda: _Connection(desk), "127.0.0.1", 0)

    with background_server(listen, "target") as running.port:
        yield running


async def _watch(running: Target) -> None:
    while True:
        due = perf_counter() + LOOK_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        running.lags.append((due, perf_counter() - due))
        running.clock.seconds()


class _Desk:
    """What all connections of a target share: the deck of answers, the slots, and the list of arrivals."""

    def __init__(self, target: Target) -> None:
        self.target, self.service = target, target.service
        self.random = random.Random(self.service.seed)
        self.deck: list[Answer] = []
        self.slots = asyncio.Semaphore(self.service.slots or 10**9)  # FIFO, as asyncio promises
        self.tasks: set[asyncio.Task[None]] = set()

    def arrive(self, connection: _Connection, problem: str) -> None:
        """Take a request that has come in whole, and begin to serve it."""
        target = self.target
        target.in_flight += 1
        arrival = Arrival(
            number=len(target.arrivals),
            connection=connection.number,
            method=connection.method,
            path=connection.path,
            problem=problem,
            body=connection.text,
            answer=None if problem else self.deal(connection.number),
            in_flight=target.in_flight,
            arrived=perf_counter(),
        )
        target.arrivals.append(arrival)
        task = asyncio.get_running_loop().create_task(self.serve(connection, arrival))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def deal(self, connection: int) -> Answer:
        """The next answer of the deck, or this connection's own."""
        if self.service.by_connection:
            return self.service.answers[connection % len(self.service.answers)]
        if not self.deck:
            self.deck = [*reversed(self.service.answers)]
            if self.service.seed is not None:
                self.random.shuffle(self.deck)
        return self.deck.pop()

    async def serve(self, connection: _Connection, arrival: Arrival) -> None:
        """Wait for a slot, work for the service time, and answer."""
        try:
            if arrival.answer is None:
                connection.answer(arrival, int(arrival.problem[:3]), {"detail": arrival.problem})
                return
            start, end = (self.target.arrivals[0].arrived + seconds for seconds in self.service.stall)
            if start <= arrival.arrived < end:
                await asyncio.sleep(end - perf_counter())
            async with self.slots:
                if math.isinf(arrival.answer.seconds):
                    await asyncio.Event().wait()
                await asyncio.sleep(arrival.answer.seconds)
            connection.answer(arrival, arrival.answer.status, self.content(arrival))
        finally:
            self.target.in_flight -= 1

    def content(self, arrival: Arrival) -> dict[str, object]:
        """The body of an answer."""
        assert arrival.answer
        if arrival.answer.status != 200:
            return {"detail": "this request is refused, as planned"}
        mean = fmean(json.loads(arrival.body)["features"])
        if arrival.answer.right:
            return {"prediction": mean if self.service.exact else mean * (1 + 2**-51)}
        off = arrival.answer.off * max(1.0, abs(mean)) * self.random.uniform(1, 1.5)
        return {"prediction": mean + self.random.choice([-1, 1]) * off}


class _Connection(asyncio.Protocol):
    """One connection of a client. An answer names its request's number, so that both sides can be compared."""

    transport: asyncio.Transport

    def __init__(self, desk: _Desk) -> None:
        self.desk = desk
        self.number = desk.target.connections
        desk.target.connections += 1
        self.parser = httptools.HttpRequestParser(self)
        self.method = self.path = self.type = self.text = ""
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP: always a full Transport

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.close()

    def on_message_begin(self) -> None:
        self.path, self.type, self.body = "", "", b""

    def on_url(self, url: bytes) -> None:
        self.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.type = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.method = self.parser.get_method().decode("latin-1")
        self.text = self.body.decode(errors="backslashreplace")
        self.desk.arrive(self, _problem(self.method, self.path, self.type, self.text))

    def answer(self, arrival: Arrival, status: int, content: dict[str, object]) -> None:
        """Send an answer, if the client is still there."""
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\nx-request-number: {arrival.number}\r\n"
        if not self.transport.is_closing():
            self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            arrival.finished = perf_counter()


def _problem(method: str, path: str, content_type: str, body: str) -> str:
    """Why this is no request for a prediction, status first; empty when it is one."""
    if path.partition("?")[0] != "/predict":
        return f"404: there is no {path}"
    if method != "POST":
        return f"405: {path} takes POST, not {method}"
    if not content_type.startswith("application/json"):
        return f"422: its content type is {content_type or 'missing'}, not application/json"
    try:
        features = json.loads(body)["features"]
        numbers = [isinstance(number, int | float) and not isinstance(number, bool) for number in features]
        if isinstance(features, list) and numbers and all(numbers) and all(map(math.isfinite, features)):
            return ""
    except (ValueError, KeyError, TypeError):
        pass
    return f"422: its body is {cut(body) or 'empty'}"
