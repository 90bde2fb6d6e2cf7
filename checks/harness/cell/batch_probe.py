"""A batch model for the learner's service that counts calls, holds them at a gate, and lets them go one by one."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from checks.harness.cell.probe import LONGEST_HOLD, numbers, on_event_loop
from checks.harness.errors import LearnerError

Item = tuple[float, ...]

ITEMS = "a list with the features of each item"
"""What a batch model is to be given."""


@dataclass(slots=True, eq=False)
class BatchCall:
    """One call of the model: the features of each item, and whether it stands on an event loop's thread."""

    items: list[Item]
    thread: int
    on_loop: bool
    inside: int
    """How many calls were in the model already when it came."""
    left: bool = False
    go: Callable[[], None] = field(default=lambda: None, repr=False)
    """Lets it go on."""


class BatchProbe:
    """A batch model whose calls wait inside until the gate is open. Nobody can guess its answers who has not asked.

    Attributes:
        calls: the calls so far, those that have left among them.
        held: whether calls wait for the gate; else each leaves at once.
        inside: how many calls are in the model now.
    """

    seconds = 0.0

    def __init__(self, *, held: bool = True) -> None:
        self.calls: list[BatchCall] = []
        self.held = held
        self.inside = 0
        self._key = secrets.randbits(64)
        self._lock = threading.Lock()

    def predict_batch(self, batch: Sequence[Sequence[float]]) -> list[float]:
        """What blocks the thread that calls it."""
        call = self.enter(items_of(batch), thread=threading.get_ident(), on_loop=on_event_loop())
        try:
            if self.held:
                gate = threading.Event()
                call.go = gate.set
                if self.held:
                    gate.wait(LONGEST_HOLD)
            return self.answered(call)
        finally:
            self.leave(call)

    def enter(self, items: list[Item], *, thread: int, on_loop: bool) -> BatchCall:
        """Take a call in, from that thread. `leave` ends it."""
        with self._lock:
            call = BatchCall(items, thread, on_loop, self.inside)
            self.calls.append(call)
            self.inside += 1
        return call

    def answer(self, item: Item) -> float:
        """The answer to an item."""
        return float(hash((self._key, item)) % 10**9) / 1000

    def answered(self, call: BatchCall) -> list[float]:
        """The answers to a call."""
        return [self.answer(item) for item in call.items]

    def leave(self, call: BatchCall) -> None:
        """End a call."""
        with self._lock:
            self.inside -= not call.left
            call.left = True

    def open(self) -> None:
        """Release all calls; later ones are not held."""
        self.held = False
        for call in list(self.calls):
            call.go()

    def release(self, call: BatchCall) -> None:
        """Let this one call go on."""
        call.go()

    def blocked_loop(self, thread: int) -> BatchCall | None:
        """The call that is held on this thread although an event loop runs there: nothing else can run on that loop."""
        if not self.held:
            return None
        return next((call for call in self.calls if call.thread == thread and call.on_loop and not call.left), None)


def items_of(batch: Any) -> list[Item]:
    """The features of each item, as floats. Raises `LearnerError` where a model was given something else."""
    given = list(batch) if isinstance(batch, Sequence) and not isinstance(batch, str | bytes) else None
    if given is None or not all(map(numbers, given)):
        raise LearnerError(
            f"predict_batch was given {str(batch)[:60]!r} ({type(batch).__name__})",
            wanted=ITEMS,
            hint="`await batcher.submit(body.features)`: an item is the features of one request.",
        )
    return [tuple(float(one) for one in item) for item in given]
