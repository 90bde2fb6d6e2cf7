"""Dynamic batching: callers who come at about the same time share a call of the model."""

from collections.abc import Awaitable, Callable, Sequence
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
        raise NotImplementedError("6.2: Batcher")

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
        raise NotImplementedError("6.2: Batcher.submit")

    async def close(self) -> None:
        """Close it: the items that wait leave in batches, without waiting for the window.

        Returns when the last outcome is there, and leaves no task behind. It may be called twice, or with nothing to
        do.
        """
        raise NotImplementedError("6.6: Batcher.close")

    def report(self) -> dict[str, Any]:
        """How many wait, and how many batches there were of each size, as `run` was given them.

        `{"waiting": 2, "sizes": {"3": 1, "8": 12}}` after one batch of three and twelve of eight.
        """
        raise NotImplementedError("6.7: Batcher.report")
