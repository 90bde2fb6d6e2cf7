"""Where in the learner's code a scene takes its course: what a card points at. None of it decides a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from checks.harness.errors import CellEnded

SAME = 5e-4
"""Seconds within which two times are the same."""

Line = str | None


@dataclass(frozen=True, slots=True)
class CallPlace:
    """How it came to a call of the model: see `cell/scene_notes.py`."""

    asked: Line = None
    begun: Line = None
    path: Line = None
    tested: Line = None
    taken: Line = None


@dataclass(frozen=True, slots=True)
class Window:
    """What becomes of the window that a `Batcher` is made with, and a state that all of them share."""

    computed: Line = None
    tested: Line = None
    unused: Line = None
    shared: Line = None


@dataclass(frozen=True, slots=True)
class Places:
    """The learner's lines in a scene. Times are the loop's."""

    calls: list[CallPlace] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)
    handed: dict[int, str] = field(default_factory=dict)
    timers: list[tuple[float, float, str]] = field(default_factory=list)
    tested: list[tuple[float, str]] = field(default_factory=list)
    read: list[tuple[float, str]] = field(default_factory=list)
    unseen: Line = None
    left: list[str] = field(default_factory=list)
    window: Window = field(default_factory=Window)

    def call(self, number: int) -> CallPlace:
        """How it came to the call of this number, counted from 0; to the last one where it was not made."""
        known = self.calls[: number + 1] if number >= 0 else self.calls
        return known[-1] if known else CallPlace()

    def decides(self, number: int = 0) -> Line:
        """What decided which items a call has: the last condition, or the line that took them."""
        call = self.call(number)
        return call.tested or call.taken or call.begun

    def takes(self, number: int = 0) -> Line:
        """What takes the items of a call out of those that wait."""
        return self.call(number).taken or self.decides(number)

    def keeps(self, due: float, at: float | None = None) -> Line:
        """What keeps items that were due at that time until `at`, or for ever: a timer, else the last condition."""
        timers = [line for _, ends, line in self.timers if at is not None and abs(ends - at) < SAME]
        conditions = [line for time, line in self.tested if time < due + SAME]
        return next((lines[-1] for lines in (timers, conditions) if lines), None)

    def tests_at(self, at: float) -> Line:
        """The last condition that was tested at this time."""
        return next((line for time, line in reversed(self.tested) if abs(time - at) < SAME), None)

    def begins(self, at: float) -> Line:
        """What reads the loop's time, or sets a timer, first at this time."""
        return next((line for time, line in self.read if abs(time - at) < SAME), None)

    def hurries(self, number: int = 0) -> Line:
        """What lets a call begin before its window is over."""
        return self.window.computed or self.window.unused or self.decides(number)

    def hands_out(self, number: int) -> Line:
        """What set the outcome of a caller, or raised what it got; else what asked for the call."""
        return self.ended.get(number) or self.unseen or self.handed.get(number) or self.call(-1).asked

    def raised(self, number: int) -> Line:
        """Where a caller's exception was raised; where its wait was cancelled."""
        return self.ended.get(number) or self.unseen


NOWHERE = Places()
_PLACES = TypeAdapter(Places)


def look(play: Any, scene: dict[str, Any]) -> Any:
    """Gives the places of a scene, which is played again for them once they are asked for."""

    @cache
    def places() -> Places:
        try:
            return _PLACES.validate_python(play(scene | {"noted": True})["notes"])
        except (Exception, CellEnded):  # a verdict hangs on none of it
            return NOWHERE

    return places
