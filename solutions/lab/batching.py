"""Dynamic batching: callers who come at about the same time share a call of the model."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any


class Batcher:
    """Collects items into batches for `run`, one call at a time, and hands each caller the answer to its own item.

    A batch leaves when the model is free and either `max_batch` items wait or the longest waiting has waited
    `batch_window` seconds since its own arrival. It takes the longest waiting, at most `max_batch`, in order of
    arrival. Everything else follows:

    - A full batch leaves at once, a lone item after the window. Arrivals do not restart the window.
    - Items that have waited for longer than that, for a busy model, leave as soon as it is free.
    - While the model works the next batch collects. `run` is never called while a call is running, nor without items.
    - With `batch_window=0` no item waits for others, only for the model.

    Time is the event loop's: `loop.time()`, `loop.call_later`, `asyncio.timeout`, `asyncio.sleep`. It is not
    `time.monotonic()`: the checkpoints run this on a virtual clock.

    With max_batch=2 and batch_window=1.0, items that come at 0.0 s, 0.2 s and 0.3 s, and a model that takes 5 s: the
    first two leave together at 0.2 s, the third at 5.2 s.
    """

    def __init__(
        self, run: Callable[[list[Any]], Awaitable[Sequence[Any]]], max_batch: int, batch_window: float
    ) -> None:
        """Start with nothing waiting. It is made while the event loop runs.

        `await run(items)` gives an outcome for each item, in their order: an answer, or an `Exception`.
        """
        self._run = run
        self._max_batch = max_batch
        self._window = batch_window
        self._waiting: deque[_Caller] = deque()  # in order of arrival
        self._sizes: Counter[int] = Counter()
        self._call: asyncio.Task[None] | None = None  # the call of the model that is running
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def submit(self, item: Any) -> Any:
        """The answer to this item, when its batch has been served.

        Items may be equal, and need not be hashable. `None` and 0.0 are answers. An outcome that is an `Exception` is
        raised here, to this caller alone. When `run` raises, all callers of that batch get that exception; when it
        returns another number of outcomes than items, or no sequence (a set or a dict, say), they all get some
        exception. In any case the next batch is served.

        A caller that is cancelled ends at once. While it waits, its item takes no place and never reaches the model.
        While its item is in the model, the call goes on for the others of the batch.

        Raises `RuntimeError` once `close` has been called.
        """
        if self._closed:
            raise RuntimeError("the batcher is closed")
        loop = asyncio.get_running_loop()
        caller = _Caller(item, loop.time() + self._window, loop.create_future())
        self._waiting.append(caller)
        self._leave_if_due()
        try:
            return await caller.outcome
        except asyncio.CancelledError:
            if caller in self._waiting:  # it takes no place in a batch
                self._waiting.remove(caller)
            raise

    async def close(self) -> None:
        """Close it: the items that wait leave in batches, without waiting for the window.

        Returns when the last outcome is there, and leaves no task behind. It may be called twice, or with nothing to
        do.
        """
        self._closed = True
        self._leave_if_due()
        while self._call:
            await asyncio.wait([self._call])

    def report(self) -> dict[str, Any]:
        """How many wait, and how many batches there were of each size, as `run` was given them.

        `{"waiting": 2, "sizes": {"3": 1, "8": 12}}` after one batch of three and twelve of eight.
        """
        return {"waiting": len(self._waiting), "sizes": {str(size): n for size, n in sorted(self._sizes.items())}}

    def _leave_if_due(self) -> None:
        """Send the next batch to the model if it is due, else set a timer for when it will be."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._call or not self._waiting:
            return
        loop, due = asyncio.get_running_loop(), self._waiting[0].due
        if self._closed or len(self._waiting) >= self._max_batch or loop.time() >= due:
            if batch := self._next_batch():
                self._sizes[len(batch)] += 1
                self._call = loop.create_task(self._serve(batch))
        else:
            self._timer = loop.call_at(due, self._leave_if_due)

    def _next_batch(self) -> "list[_Caller]":
        """Take the longest waiting, at most `max_batch`."""
        batch: list[_Caller] = []
        while self._waiting and len(batch) < self._max_batch:
            caller = self._waiting.popleft()
            if not caller.outcome.done():  # else it was cancelled in this very turn of the loop
                batch.append(caller)
        return batch

    async def _serve(self, batch: "list[_Caller]") -> None:
        """Call the model, in a task of its own: no caller who leaves can cancel it. Then the next batch may leave."""
        outcomes: Sequence[Any]
        try:
            outcomes = await self._run([caller.item for caller in batch])
            if not isinstance(outcomes, Sequence):  # a set has a length, too, but not the order of the items
                raise TypeError(f"outcomes in a {type(outcomes).__name__}, which is no sequence")
            if len(outcomes) != len(batch):
                raise RuntimeError(f"{len(outcomes)} outcomes for {len(batch)} items")
            outcomes = list(outcomes)
        except asyncio.CancelledError:
            outcomes = [RuntimeError("the call of the model was cancelled") for _ in batch]
        except Exception as error:
            outcomes = [error for _ in batch]
        for caller, outcome in zip(batch, outcomes, strict=True):
            if caller.outcome.done():  # its caller has left
                continue
            if isinstance(outcome, Exception):
                caller.outcome.set_exception(outcome)
            else:
                caller.outcome.set_result(outcome)
        self._call = None
        self._leave_if_due()


@dataclass(slots=True, eq=False)
class _Caller:
    """An item that waits, when it has waited for its window (the loop's time), and what became of it."""

    item: Any
    due: float
    outcome: "asyncio.Future[Any]"
