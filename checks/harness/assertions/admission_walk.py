"""A random walk through what can happen to an admission control, beside a model of what must follow.

Requests arrive, alone and in bursts, end, crash, and are cancelled inside and in the queue. After each step the walk
looks where all requests are. It reads no clock: it looks when the event loop has nothing left to do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from checks.harness.cell.exchange import App, Exchange
from checks.harness.errors import Failure

TURNS = 30
"""Turns of the loop after which a right answer has long done what a step asks for."""
LOOKS = 500
"""Looks, 10 ms apart, after which the effect of a step is called missing."""
SHOWN_ROWS = 5

FINALLY = "`try: await self.app(...)`, and the slot back in `finally:`. A request cancelled while it waits holds none."
LEAVES = (
    "A request that is cancelled while it waits leaves the queue: `except asyncio.CancelledError`, tidy up, `raise`."
)
HANDED = "Whoever leaves hands the slot to the request that waits longest, without making it free in between."
CLAIMED = (
    "Let nothing be awaited between looking for a free slot and taking it; keep a slot until the app has returned, and "
    "give it back once. `call_next` of a BaseHTTPMiddleware returns when the answer begins, which is too early."
)
FULL = "Refuse a request when `max_queue` requests wait already."
UNTOUCHED = "What the app raises, and a cancellation, pass through: `finally:` tidies up, and `except` raises again."

Row = tuple[str, int, int, int, int]
"""What happened, then how many were inside and should be, and the same of those that waited."""
COLUMNS = ("what happened", "inside", "wanted", "waiting", "wanted")

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
    """A step after which a request was not where it should be: `failure` says which, where, and after what."""

    def __init__(self, failure: Failure, rows: list[Row]) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.rows = rows
        """The last steps, the wrong one among them."""


class Walk:
    """One admission control under test, the requests in it, and where each of them should be."""

    def __init__(self, control: Control, max_in_flight: int, max_queue: int, rng: random.Random) -> None:
        self.slots, self.places, self.rng = max_in_flight, max_queue, rng
        self.app = control(self.serve, max_in_flight=max_in_flight, max_queue=max_queue, queue_seconds=3600)
        self.numbers = itertools.count()
        self.visitors: list[Visitor] = []
        """All requests that have not been seen to end as they should."""
        self.by_scope: dict[int, Visitor] = {}
        self.inside: list[Visitor] = []
        self.waiting: list[Visitor] = []
        self.wanted: dict[Visitor, str] = {}
        self.rows: list[Row] = []
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
        """So many requests arrive at once."""
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
        """One ends, and one arrives in that same instant: the slot is for the request that waits longest."""
        self.leave("served")
        self.arrive(1)
        return "one ended just as one arrived"

    # -- the walk ----------------------------------------------------------------------------------------------

    async def go(self, steps: int) -> Counter[str]:
        """Take so many random steps, then let all requests finish. Returns how many ended in each way.

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
        """Look where all requests are after something happened."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for _ in range(LOOKS):
            if not (wrong := self.wrong()):
                break
            await asyncio.sleep(0.01)
        inside, waiting = len(self.seen("inside")), len(self.seen("waiting"))
        row = (what, inside, len(self.inside), waiting, len(self.waiting))
        self.rows = [*self.rows[1 - SHOWN_ROWS :], row]
        if wrong:
            seen = f"of {self.slots} slots and {self.places} places to wait, after {what}: {wrong.seen}"
            raise Stray(Failure(seen, wrong.wanted, wrong.hint), self.rows) from self.cause()
        for visitor in [visitor for visitor in self.visitors if visitor in self.wanted]:
            self.ends[self.wanted.pop(visitor)] += 1
            self.visitors.remove(visitor)
            del self.by_scope[visitor.name]

    def callback_failed(self, _: object, context: dict[str, Any]) -> None:
        """Keep what a callback raised; a task's exception that was never retrieved does not count."""
        if "handle" in context and "exception" in context:
            self.raised.append(context["exception"])

    def cause(self) -> BaseException | None:
        """The first exception that is not of the walk's own making."""
        ended = [visitor.task for visitor in self.visitors if visitor.where.startswith("ended in")]
        return next(iter([*self.raised, *filter(None, (task.exception() for task in ended))]), None)

    def seen(self, where: str) -> list[Visitor]:
        """The requests that are there."""
        return [visitor for visitor in self.visitors if visitor.where == where]

    def wrong(self) -> Failure | None:
        """What is not as it must be; None when all is well."""
        inside, waiting = len(self.seen("inside")), len(self.seen("waiting"))
        if inside > self.slots:
            return Failure(f"{inside} requests are in the app together", f"never more than {self.slots}", CLAIMED)
        for visitor, wanted in self.wanted.items():
            if visitor.where != wanted:
                hint = FULL if wanted == "refused" else UNTOUCHED if wanted in ("crashed", "cancelled") else ""
                return Failure(f"a request that should be {wanted} is {visitor.where}", wanted, hint)
        if inside < len(self.inside):
            seen = f"a slot is lost: {inside} in the app, {waiting} waiting"
            return Failure(seen, f"{len(self.inside)} in the app", FINALLY)
        for visitor in self.inside:
            if visitor.where != "inside":
                later = "another one is inside in its place" if visitor.where == "waiting" else f"it is {visitor.where}"
                return Failure(f"the slot is due to a request, but {later}", "first come, first served", HANDED)
        for visitor in self.waiting:
            if visitor.where != "waiting":
                seen = f"a request that should wait is {visitor.where}"
                return Failure(seen, f"{len(self.waiting)} waiting", LEAVES)
        return None
