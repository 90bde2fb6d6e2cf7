"""Scenes for the learner's `Batcher`, drawn here, and what is reported of them: calls of the model, ends of callers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from checks.harness.errors import Failure, LearnerError
from checks.harness.report.evidence import Show, timeline
from checks.support.ex6.places import NOWHERE, SAME, Places, look

Play = Callable[[dict[str, Any]], Any]

LATE = 60.0
"""Virtual seconds after the last step in which a caller has to end."""
SHOWN = 24
OURS = ("Bad", "Broken")
"""Exceptions of the scene's model: of an item, and of a whole batch."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the model: the numbers of its items (-1 is none of ours), and how many calls were running already."""

    items: list[int]
    entered: float
    left: float | None
    cancelled: bool
    inside: int


@dataclass(frozen=True, slots=True)
class End:
    """How a caller ended: "answered", "raised", "returned" (an exception), "cancelled", or None for one that waits."""

    came: float
    ended: float | None
    how: str | None
    what: Any

    def __str__(self) -> str:
        """In words."""
        match self.how:
            case None:
                return "got no answer until the end"
            case "raised" if self.what[0] in OURS:
                return f"got a {self.what[0]}: {self.what[1]}"
            case "raised":
                return f"got no answer: your code raised {self.what[0]}({self.what[1]!r})"
            case "returned":
                return f"was answered with an exception as if it were an answer ({self.what[0]})"
            case "cancelled":
                return "was cancelled"
            case _:
                return f"was answered {self.what!r:.60}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is reported of a scene."""

    calls: list[Call]
    callers: dict[int, End]
    closed: list[End]
    reports: list[Any]
    tasks: int
    clock: str | None
    look: Callable[[], Places] = field(default=lambda: NOWHERE, compare=False)

    @property
    def places(self) -> Places:
        """Where in the learner's code it happened."""
        return self.look()

    def call_of(self, item: int) -> Call | None:
        """The first call that an item was in."""
        return next((call for call in self.calls if item in call.items), None)


_SEEN = TypeAdapter(Seen)


class Scene:
    """A model, the items that come and what becomes of each. Times are virtual seconds."""

    def __init__(self, rng: random.Random, items: int, max_batch: int, window: float, title: str) -> None:
        self.rng, self.items, self.max_batch, self.window, self.title = rng, items, max_batch, window, title
        self.base, self.item = rng.randint(100, 200) / 1000, rng.randint(3, 9) / 1000
        self.values = [rng.uniform(-1e3, 1e3) for _ in range(items)]
        self.outcomes: list[list[Any]] = [["answer", rng.uniform(-1e6, 1e6)] for _ in range(items)]
        self.other_calls: dict[str, dict[str, Any]] = {}
        self.steps: list[dict[str, Any]] = []

    def service(self, batch: int) -> float:
        """Seconds of a call with so many items."""
        return self.base + self.item * batch

    def submit(self, at: float, *items: int) -> None:
        """These items come at that time, in this order."""
        self.steps += [{"at": at, "do": "submit", "item": item} for item in items]

    def cancel(self, at: float, *items: int) -> None:
        """These callers leave at that time."""
        self.steps += [{"at": at, "do": "cancel", "item": item} for item in items]

    def does(self, what: str, at: float) -> None:
        """`close`, `report`, or `turn` (a few turns of the loop, in which nothing else comes)."""
        self.steps.append({"at": at, "do": what})

    def play(self, play: Play, show: Show) -> Seen:
        """What happens. The last scene that was played is on the card."""
        scene = {
            "max_batch": self.max_batch,
            "window": self.window,
            "base": self.base,
            "item": self.item,
            "values": self.values,
            "outcomes": self.outcomes,
            "calls": self.other_calls,
            "steps": sorted(self.steps, key=lambda step: step["at"]),
            "horizon": LATE + self.window,
        }
        told = play(scene)
        try:
            seen = replace(_SEEN.validate_python(told, strict=False), look=look(play, scene))
        except ValidationError as error:
            raise LearnerError("your code wrote something else in the place of what happened") from error
        show.evidence[:] = [] if not seen.callers else [self._picture(seen)]
        self._the_loops_time(seen)
        self._one_call_at_a_time(seen)
        return seen

    def _the_loops_time(self, seen: Seen) -> None:
        """Where another clock is read, no item waits for longer than any batcher can be right with."""
        if seen.clock is None:
            return
        free = 0.0
        for call in seen.calls:
            came = min([seen.callers[item].came for item in call.items if item >= 0], default=0.0)
            self._left_in_time(call.entered - came, max(free, came + self.window) - came, seen.clock)
            free = call.left or call.entered
        for end in seen.callers.values():
            if end.how is None:
                self._left_in_time(math.inf, self.window, seen.clock)

    @staticmethod
    def _left_in_time(waited: float, latest: float, clock: str) -> None:
        assert waited <= latest + SAME, Failure(
            f"an item waited {'for ever' if waited == math.inf else seconds(waited)} where its window and the model "
            f"took {seconds(latest)}: the time is read from another clock than the event loop's",
            "the loop's own time: the checkpoints run it on a virtual clock",
            "`loop.time()`, `loop.call_at`, `asyncio.timeout`: no `time.monotonic()`.",
            clock,
        )

    def _picture(self, seen: Seen) -> Any:
        """A row for each caller: it waits, then its item is in the model."""
        spans: list[tuple[str, float, float | None, float | None]] = []
        for number, one in sorted(seen.callers.items())[:SHOWN]:
            call = seen.call_of(number)
            label = f"item {number + 1}" + (f", call {seen.calls.index(call) + 1}" if call else "")
            spans.append((label, one.came, call.entered if call else None, one.ended))
        return timeline(spans, f"{self.title}: max_batch {self.max_batch}, window {self.window:g} s")

    @staticmethod
    def _one_call_at_a_time(seen: Seen) -> None:
        together = [call for call in seen.calls if call.inside]
        assert not together, Failure(
            f"`run` was called at {seconds(together[0].entered)}, while another call of it was running",
            "one call at a time: the model does one thing at a time, and the next batch collects meanwhile",
            "Keep the running call in a field, and start none while there is one.",
            seen.places.call(seen.calls.index(together[0])).begun,
        )
        empty = [call for call in seen.calls if not call.items]
        assert not empty, Failure(
            f"`run` was called with no items, at {seconds(empty[0].entered)}",
            "no call without items",
            "Check whether any item still waits before you call it: those that waited may have been cancelled.",
            seen.places.decides(seen.calls.index(empty[0])),
        )


def seconds(time: float) -> str:
    """A time on the virtual clock."""
    return f"{time:.3f} s"


def same(one: float | None, other: float) -> bool:
    """Whether two times are the same."""
    return one is not None and math.isclose(one, other, abs_tol=SAME)


def answered(seen: Seen, items: Sequence[int]) -> None:
    """Each of these callers got an answer; whether it is the right one is for 6.4 to say."""
    for number in items:
        end = seen.callers[number]
        assert end.how == "answered", Failure(
            f"a caller {end}", "each is answered", "See 6.4, which is about that.", seen.places.hands_out(number)
        )


def _items(number: int) -> str:
    return f"{number} item{'s' * (number != 1)}"


def calls_in_words(seen: Seen) -> str:
    """What the model was given, call by call."""
    told = [f"{_items(len(call.items))} at {seconds(call.entered)}" for call in seen.calls[:5]]
    return ", ".join(told) + (", ..." if len(seen.calls) > 5 else "") if told else "no call"
