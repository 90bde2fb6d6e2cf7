"""A random walk through what can happen to an admission control, beside a model of what must follow.

Requests come, alone and in bursts, end, crash, and are cancelled inside and in the queue. After each step the walk
looks where everybody is. No clock is asked: it looks when the event loop has nothing left to do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from checks.harness.cell.exchange import App, Exchange

TURNS = 30
"""Rounds of the loop in which a right answer has long done what a step asks for."""
PATIENCE = 5.0
"""Seconds that a step's effect is waited for before it is called missing."""

FINALLY = (
    "try: `try: await self.app(...)`, and the slot back in `finally:`; who was cancelled while waiting holds none."
)
COUNTS = "try: Who was cancelled while it waited leaves the queue: `except asyncio.CancelledError`, tidy up, `raise`."
HANDED = "try: Whoever leaves hands the slot to the longest waiting, without making it free in between."

Control = Callable[..., App]


class Crash(Exception):
    """What a request of the walk ends in, sometimes."""


@dataclass(eq=False)
class Visitor:
    """One request of the walk."""

    name: int
    exchange: Exchange
    task: asyncio.Task[Any] = field(init=False)
    gate: asyncio.Future[bool] | None = None
    """Holds it while it is inside the app: True lets it end well, False makes it crash."""

    @property
    def where(self) -> str:
        """`inside`, `waiting`, `served`, `refused`, `crashed`, `cancelled`, or what else became of it."""
        if not self.task.done():
            return "inside" if self.gate else "waiting"
        if self.task.cancelled():
            return "cancelled"
        if error := self.task.exception():
            return "crashed" if isinstance(error, Crash) else f"ended in {type(error).__name__}: {error}"
        if self.exchange.status == 503:
            return "refused"
        return "served" if self.exchange.status == 200 else f"answered {self.exchange.status}"


class Stray(Exception):
    """A step after which somebody was not where they should be: the message says who, where, and after what."""

    def __init__(self, message: str, rows: list[tuple[str, int, int, int, int]]) -> None:
        super().__init__(message)
        self.rows = rows
        """The last steps: what happened, then how many were inside and should be, and the same of those who waited."""


class Walk:
    """One admission control under test, who is in it, and who should be where."""

    def __init__(self, control: Control, max_in_flight: int, max_queue: int, rng: random.Random) -> None:
        self.slots, self.places, self.rng = max_in_flight, max_queue, rng
        self.app = control(self.serve, max_in_flight=max_in_flight, max_queue=max_queue, queue_seconds=3600)
        self.numbers = itertools.count()
        self.visitors: list[Visitor] = []
        """Everybody of whom it is not settled yet what becomes of them."""
        self.by_scope: dict[int, Visitor] = {}
        self.inside: list[Visitor] = []
        self.waiting: list[Visitor] = []
        self.wanted: dict[Visitor, str] = {}
        self.rows: list[tuple[str, int, int, int, int]] = []
        self.ends: Counter[str] = Counter()
        self.raised: list[BaseException] = []
        """What callbacks of the loop raised: a timer's, say."""

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - the signature is ASGI's
        """The app behind the control: its answer begins at once, and is held before its last piece."""
        visitor = self.by_scope[scope["walk"]]
        visitor.gate = asyncio.get_running_loop().create_future()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if not await visitor.gate:
            raise Crash
        await send({"type": "http.response.body", "body": b"last"})

    # -- what can happen ---------------------------------------------------------------------------------------

    def arrive(self, number: int) -> str:
        """So many come at once."""
        for _ in range(number):
            visitor = Visitor(next(self.numbers), Exchange("POST", "/predict"))
            visitor.exchange.scope["walk"] = visitor.name
            self.by_scope[visitor.name] = visitor
            visitor.task = asyncio.ensure_future(visitor.exchange.run(self.app))
            self.visitors.append(visitor)
            if len(self.inside) < self.slots:
                self.inside.append(visitor)
            elif len(self.waiting) < self.places:
                self.waiting.append(visitor)
            else:
                self.wanted[visitor] = "refused"
        return f"{number} arrived at once" if number > 1 else "one arrived"

    def leave(self, how: str) -> str:
        """One that is inside ends: `served`, `crashed` or `cancelled`."""
        visitor = self.inside.pop(self.rng.randrange(len(self.inside)))
        self.wanted[visitor] = how
        if how == "cancelled":
            visitor.task.cancel()
        elif visitor.gate:
            visitor.gate.set_result(how == "served")
        if self.waiting:
            self.inside.append(self.waiting.pop(0))
        return {"served": "one ended", "crashed": "one crashed", "cancelled": "one was cancelled inside"}[how]

    def give_up(self) -> str:
        """One that waits is cancelled."""
        visitor = self.waiting.pop(self.rng.randrange(len(self.waiting)))
        self.wanted[visitor] = "cancelled"
        visitor.task.cancel()
        return "one was cancelled while it waited"

    def overtake(self) -> str:
        """One ends, and a newcomer comes in that same instant: the slot is for who waits longest."""
        self.leave("served")
        self.arrive(1)
        return "one ended just as one arrived"

    # -- the walk ----------------------------------------------------------------------------------------------

    async def go(self, steps: int) -> Counter[str]:
        """So many random steps, then everybody goes home; how many came to which end.

        Raises `Stray`, from the exception that led to it where there is one.
        """
        asyncio.get_running_loop().set_exception_handler(self.callback_failed)
        for _ in range(steps):
            ends = ["served", "crashed", "cancelled"]
            possible: list[Callable[[], str]] = [lambda: self.arrive(1), lambda: self.arrive(self.rng.randint(2, 5))]
            if self.inside:
                possible += [lambda how=how: self.leave(how) for how in ends]  # type: ignore[misc]
            if self.waiting:
                possible += [self.give_up]
            if self.inside and len(self.waiting) < self.places:  # a full queue may have its own idea of that instant
                possible += [self.overtake]
            await self.step(self.rng.choice(possible)())
        while self.inside:
            await self.step(self.leave("served"))
        await self.step(self.arrive(self.slots + self.places + 1))
        while self.inside:
            await self.step(self.leave("served"))
        return self.ends

    async def step(self, what: str) -> None:
        """Look where everybody is after something happened."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        deadline = time.monotonic() + PATIENCE
        while (wrong := self.wrong()) and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(0.01)
        inside, waiting = len(self.seen("inside")), len(self.seen("waiting"))
        self.rows = [*self.rows[-4:], (what, inside, len(self.inside), waiting, len(self.waiting))]
        if wrong:
            raise Stray(
                f"of {self.slots} slots and {self.places} places to wait, after {what}: {wrong}", self.rows
            ) from self.cause()
        for visitor in [visitor for visitor in self.visitors if visitor in self.wanted]:
            self.ends[self.wanted.pop(visitor)] += 1
            self.visitors.remove(visitor)
            del self.by_scope[visitor.name]

    def callback_failed(self, _: object, context: dict[str, Any]) -> None:
        """Keep what a callback raised; a task's exception that nobody asked for is none of ours."""
        if "handle" in context and "exception" in context:
            self.raised.append(context["exception"])

    def cause(self) -> BaseException | None:
        """The first exception that is not of the walk's own making."""
        ended = [visitor.task for visitor in self.visitors if visitor.where.startswith("ended in")]
        return next(iter([*self.raised, *filter(None, (task.exception() for task in ended))]), None)

    def seen(self, where: str) -> list[Visitor]:
        """Who is there."""
        return [visitor for visitor in self.visitors if visitor.where == where]

    def wrong(self) -> str:
        """What is not as it must be; empty when all is well."""
        inside, waiting = len(self.seen("inside")), len(self.seen("waiting"))
        if inside > self.slots:
            return f"{inside} requests are in the app together\nwanted: never more than {self.slots}"
        for visitor, wanted in self.wanted.items():
            if visitor.where != wanted:
                return f"a request that should be {wanted} is {visitor.where}\nwanted: {wanted}\n{COUNTS}"
        if inside < len(self.inside):
            return (
                f"{inside} in the app, {waiting} waiting\n"
                f"wanted: {len(self.inside)} in the app: a slot is lost\n{FINALLY}"
            )
        for visitor in self.inside:
            if visitor.where != "inside":
                later = "another one is inside in its place" if visitor.where == "waiting" else f"it is {visitor.where}"
                return f"the slot is due to a request, but {later}\nwanted: first come, first served\n{HANDED}"
        for visitor in self.waiting:
            if visitor.where != "waiting":
                return f"a request that should wait is {visitor.where}\nwanted: {len(self.waiting)} waiting\n{COUNTS}"
        return ""
