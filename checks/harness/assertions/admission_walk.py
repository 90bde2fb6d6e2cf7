"""A random walk through what can happen to an admission control, beside a model of what must follow.

Requests arrive, alone and in bursts, end, crash, and are cancelled inside and in the queue. After each step the walk
looks where all requests are. It reads no clock: it looks when the event loop has nothing left to do. The control may
be in a cell: what happens in one step goes there in one message, and happens in one turn of its loop.
"""

from __future__ import annotations

import itertools
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from checks.harness.cell.visitors import Deed
from checks.harness.errors import Failure
from checks.harness.judge.visits import Take, visits

LOOKS = 500
"""Looks, 10 ms apart, after which the effect of a step is called missing."""
SHOWN_ROWS = 5

FINALLY = (
    "`try: await self.app(...)`, and give the slot back in `finally:`. A request that is cancelled while it waits "
    "has no slot."
)
LEAVES = (
    "A request that is cancelled while it waits leaves the queue: `except asyncio.CancelledError`, remove it, `raise`."
)
HANDED = "When a request ends, hand its slot to the request that waits longest, without making it free in between."
CLAIMED = (
    "Await nothing between looking for a free slot and taking it. Keep a slot until the app has returned, and "
    "give it back once. `call_next` of a BaseHTTPMiddleware returns when the answer begins, which is too early."
)
FULL = "Refuse a request when `max_queue` requests wait already."
TOGETHER = (
    "The limit fails only for requests that arrive at once. Look how many requests wait, and count this one, without "
    "an `await` between the two: else all of them see the same number. `await semaphore.acquire()` lets others run."
)
NO_REFUSAL = (
    "An exception of the app passes through, and a TimeoutError of the app, too: let `await self.app(...)` stand "
    "outside of every `try` whose `except` refuses."
)
UNTOUCHED = (
    "Exceptions of the app and cancellations pass through: tidy up in `finally:`, and `raise` again in each `except`."
)

Row = tuple[str, int, int, int, int]
"""What happened, then how many were inside and should be, and the same of those that waited."""
COLUMNS = ("what happened", "inside", "wanted", "waiting", "wanted")

LOOK = 0.01
"""Seconds between two of them."""


@dataclass(eq=False)
class Visitor:
    """One request of the walk, as it was told of."""

    name: int
    word: str = field(default_factory=secrets.token_hex)
    """Ends its answer, and is not known before it is let go: what has it was inside until then."""
    let_go: bool = False
    """Whether it was given that word."""
    inside: bool = False
    ended: str = ""
    error: BaseException | None = None

    @property
    def where(self) -> str:
        """`inside`, `waiting`, `served`, `refused`, `crashed`, `cancelled`, or what else became of it."""
        return self.ended or ("inside" if self.inside else "waiting")

    def told(self, how: str, status: int | None, body: bytes, error: BaseException | None) -> None:
        """Take what became of it."""
        if how == "inside":
            self.inside = True
            return
        self.error = error
        whole = self.inside and (not self.let_go or body.endswith(self.word.encode()))
        answered = "answered without a status" if status is None else f"answered {status}"
        answered += " without its end" if status == 200 else ""
        answered = "refused" if status == 503 else "served" if status == 200 and whole else answered
        raised = f"ended in {type(error).__name__}: {error}"
        self.ended = {"answered": answered, "raised": raised}.get(how, how)


class Stray(Exception):
    """A step after which a request was not where it should be: `failure` says which, where, and after what."""

    def __init__(self, failure: Failure, rows: list[Row]) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.rows = rows
        """The last steps, the wrong one among them."""


class Walk:
    """One admission control under test, the requests in it, and where each of them should be."""

    def __init__(self, control: Callable[..., Any], max_in_flight: int, max_queue: int, rng: random.Random) -> None:
        self.slots, self.places, self.rng = max_in_flight, max_queue, rng
        self.numbers = itertools.count()
        self.visitors: list[Visitor] = []
        """All requests that have not been seen to end as they should."""
        self.by_name: dict[int, Visitor] = {}
        self.inside: list[Visitor] = []
        self.waiting: list[Visitor] = []
        self.wanted: dict[Visitor, str] = {}
        self.rows: list[Row] = []
        self.ends: Counter[str] = Counter()
        self.raised: list[BaseException] = []
        """What callbacks of the loop raised: a timer's, say."""
        self.deeds: list[Deed] = []
        """What happens in the next step, all at once."""
        self.together: list[Visitor] = []
        """Those that arrived at once in this step."""
        self.control = control
        self.take: Take

    def told(
        self, visitor: int, how: str, status: int | None = None, body: bytes = b"", error: BaseException | None = None
    ) -> None:
        """Take what became of a visitor, or what a callback of the loop raised."""
        if visitor >= 0:
            self.by_name[visitor].told(how, status, body, error)
        elif error:
            self.raised.append(error)

    # -- what can happen ---------------------------------------------------------------------------------------

    def arrive(self, number: int) -> str:
        """So many requests arrive at once."""
        for _ in range(number):
            visitor = Visitor(next(self.numbers))
            self.by_name[visitor.name] = visitor
            self.deeds.append(("arrive", visitor.name, ""))
            self.visitors.append(visitor)
            self.together += [visitor] if number > 1 else []
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
        deed, visitor.let_go = "cancel" if how == "cancelled" else "go", how == "served"
        self.deeds.append((deed, visitor.name, visitor.word if how == "served" else ""))
        if self.waiting:
            self.inside.append(self.waiting.pop(0))
        return {"served": "one ended", "crashed": "one crashed", "cancelled": "one was cancelled inside"}[how]

    def give_up(self) -> str:
        """One that waits is cancelled."""
        visitor = self.waiting.pop(self.rng.randrange(len(self.waiting)))
        self.wanted[visitor] = "cancelled"
        self.deeds.append(("cancel", visitor.name, ""))
        return "one was cancelled while it waited"

    def overtake(self) -> str:
        """One ends, and one arrives in that same instant: the slot is for the request that waits longest."""
        self.leave("served")
        self.arrive(1)
        return "one ended just as one arrived"

    # -- the walk ----------------------------------------------------------------------------------------------

    def go(self, steps: int) -> Counter[str]:
        """Take so many random steps, then let all requests finish. Returns how many ended in each way.

        Raises `Stray`, from the exception that led to it where there is one.
        """
        limits = {"max_in_flight": self.slots, "max_queue": self.places, "queue_seconds": 3600}
        with visits(self.control, limits, self.told) as self.take:
            return self.walk(steps)

    def walk(self, steps: int) -> Counter[str]:
        """The same, while there are visitors."""
        for _ in range(steps):
            ends = ["served", "crashed", "cancelled"]
            possible: list[Callable[[], str]] = [lambda: self.arrive(1), lambda: self.arrive(self.rng.randint(2, 5))]
            if self.inside:
                possible += [lambda how=how: self.leave(how) for how in ends]  # type: ignore[misc]
            if self.waiting:
                possible += [self.give_up]
            if self.inside and len(self.waiting) < self.places:  # a full queue may have its own idea of that instant
                possible += [self.overtake]
            self.step(self.rng.choice(possible)())
        while self.inside:
            self.step(self.leave("served"))
        self.step(self.arrive(self.slots + self.places + 1))
        while self.inside:
            self.step(self.leave("served"))
        return self.ends

    def step(self, what: str) -> None:
        """Look where all requests are after something happened."""
        deeds, self.deeds = self.deeds, []
        self.take(deeds, 0.0)
        for _ in range(LOOKS):
            if not (wrong := self.wrong()):
                break
            self.take([], LOOK)
        inside, waiting = len(self.seen("inside")), len(self.seen("waiting"))
        row = (what, inside, len(self.inside), waiting, len(self.waiting))
        self.rows = [*self.rows[1 - SHOWN_ROWS :], row]
        if wrong:
            seen = f"of {self.slots} slots and {self.places} places to wait, after {what}: {wrong.seen}"
            raise Stray(Failure(seen, wrong.wanted, wrong.hint), self.rows) from self.cause()
        for visitor in [visitor for visitor in self.visitors if visitor in self.wanted]:
            self.ends[self.wanted.pop(visitor)] += 1
            self.visitors.remove(visitor)
            del self.by_name[visitor.name]
        self.together.clear()

    def cause(self) -> BaseException | None:
        """The first exception that is not of the walk's own making."""
        return next(iter([*self.raised, *(visitor.error for visitor in self.visitors if visitor.error)]), None)

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
                full = TOGETHER if visitor in self.together else FULL
                hint = full if wanted == "refused" else UNTOUCHED if wanted in ("crashed", "cancelled") else ""
                if (wanted, visitor.where) == ("crashed", "refused"):
                    hint = NO_REFUSAL
                return Failure(f"a request that should be {wanted} is {visitor.where}", wanted, hint)
        if inside < len(self.inside):
            seen = f"a slot is lost: {inside} in the app, {waiting} waiting"
            return Failure(seen, f"{len(self.inside)} in the app", FINALLY)
        for visitor in self.inside:
            if visitor.where != "inside":
                later = "another request is inside instead" if visitor.where == "waiting" else f"it is {visitor.where}"
                hint = self._or_together(HANDED, visitor)
                return Failure(f"a request should have the slot, but {later}", "first come, first served", hint)
        for visitor in self.waiting:
            if visitor.where != "waiting":
                seen = f"a request that should wait is {visitor.where}"
                hint = self._or_together(LEAVES, visitor)
                return Failure(seen, f"{len(self.waiting)} waiting", hint)
        return None

    def _or_together(self, hint: str, visitor: Visitor) -> str:
        """The hint, or that for requests that came at once: a place that a cancelled one has kept looks the same."""
        if visitor not in self.together or visitor.where != "refused":
            return hint
        return f"{hint} Or: {TOGETHER}" if self.ends["cancelled"] else TOGETHER
