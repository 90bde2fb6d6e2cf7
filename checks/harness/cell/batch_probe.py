"""A batch model for the learner's service that counts calls, holds them at a gate, and lets them go one by one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from checks.harness.cell.probe import Gated, Held, numbers, on_event_loop, secret
from checks.harness.errors import LearnerError, cut

Item = tuple[float, ...]

ITEMS = "a list with the features of each item"
"""What a batch model is to be given."""


@dataclass(slots=True, eq=False)
class BatchCall(Held):
    """One call of `predict_batch`: the features of each item."""

    items: list[Item]


class BatchProbe(Gated[BatchCall]):
    """A batch model whose calls wait inside until the gate is open; without a gate each leaves at once.

    `answer` gives the answer to an item, which nobody can guess who has not asked.
    """

    def __init__(self, *, held: bool = True) -> None:
        super().__init__(held=held)
        self.answer = secret()

    def predict_batch(self, batch: Sequence[Sequence[float]]) -> list[float]:
        """What blocks the thread that calls it."""
        call = self.enter(items_of(batch), thread=threading.get_ident(), on_loop=on_event_loop())
        try:
            if self.held:
                self._wait(call)
            return self.answered(call)
        finally:
            self.leave(call)

    def enter(self, items: list[Item], *, thread: int, on_loop: bool) -> BatchCall:
        """Take a call in, from that thread. `leave` ends it."""
        return self._take_in(BatchCall(items, blocking=True, thread=thread, on_loop=on_loop))

    def answered(self, call: BatchCall) -> list[float]:
        """The answers to a call."""
        return [self.answer(item) for item in call.items]


def items_of(batch: Any) -> list[Item]:
    """The features of each item, as floats. Raises `LearnerError` where a model was given something else."""
    given = list(batch) if isinstance(batch, Sequence) and not isinstance(batch, str | bytes) else None
    if given is None or not all(map(numbers, given)):
        raise LearnerError(
            f"predict_batch was given {cut(str(batch))!r} ({type(batch).__name__})",
            wanted=ITEMS,
            hint="`await batcher.submit(body.features)`: an item is the features of one request.",
        )
    return [tuple(float(one) for one in item) for item in given]
