"""What queue arithmetic says before anything is measured."""

import math

from lab.settings import THREAD_POOL_SIZE


def burst_seconds(kind: str, requests: int, seconds: float, threads: int = THREAD_POOL_SIZE) -> float:
    """How long a burst takes until its last answer: `requests` arrive together, the model needs `seconds` for each.

    `kind` says how the endpoint calls the model: "async" (awaits it), "threaded" (blocks one of `threads` pool
    threads) or "blocking" (blocks the event loop). No requests take 0.0 s; any other kind is a ValueError.

    >>> burst_seconds("threaded", requests=41, seconds=0.5, threads=40)  # the 41st waits for a thread
    1.0
    """
    together = {"async": requests, "threaded": threads, "blocking": 1}
    if kind not in together:
        raise ValueError(f"kind is one of {', '.join(together)}, not {kind!r}")
    if requests == 0:
        return 0.0
    return math.ceil(requests / together[kind]) * seconds


def max_throughput(kind: str, workers: int, seconds: float, threads: int = THREAD_POOL_SIZE) -> float:
    """Requests per second that a service cannot exceed, when its model needs `seconds` for each.

    `kind` is as in `burst_seconds`; each of the `workers` is a process with an event loop, and a pool of `threads`, of
    its own. "async" has no limit, since it only waits: `math.inf`. Any other kind is a ValueError.

    >>> max_throughput("threaded", workers=2, seconds=0.5, threads=40)
    160.0
    """
    together = {"async": math.inf, "threaded": workers * threads, "blocking": workers}
    if kind not in together:
        raise ValueError(f"kind is one of {', '.join(together)}, not {kind!r}")
    return together[kind] / seconds


def threads_needed(rate: float, seconds: float) -> int:
    """The fewest threads that can serve `rate` requests per second, when each keeps a thread for `seconds`.

    Little's law (1961): busy threads = requests per second x seconds, rounded up to whole ones.

    >>> threads_needed(100, 0.07)  # in floats 100 * 0.07 is 7.000000000000001, but 7 threads are enough
    7
    """
    return math.ceil(round(rate * seconds, 9))


def batch_throughput(batch: int, base_seconds: float, item_seconds: float) -> float:
    """Items per second of a model that is always busy with batches of this size: `base + item x n` seconds each.

    >>> batch_throughput(8, base_seconds=0.08, item_seconds=0.0025)
    80.0
    """
    return batch / (base_seconds + batch * item_seconds)


def batch_size(rate: float, base_seconds: float, item_seconds: float, window: float, max_batch: int) -> float:
    """The mean batch when items arrive as a steady flow of `rate` per second. It need not be whole.

    The larger of two, and at most `max_batch`:

    - 1 + rate x window: the first item, and what arrives in its window;
    - rate x base / (1 - rate x item): as many as arrive while such a batch is served. This is infinite when
      rate x item is 1 or more.

    >>> batch_size(20, base_seconds=0.1, item_seconds=0.025, window=0.05, max_batch=8)  # 1 + 1, and 2 / 0.5
    4.0
    """
    in_a_window = 1 + rate * window
    return min(max_batch, max(in_a_window, _arriving_meanwhile(rate, base_seconds, item_seconds)))


def batched_latency(rate: float, base_seconds: float, item_seconds: float, window: float, max_batch: int) -> float:
    """The mean seconds from an item's arrival to its answer; `math.inf` when `rate` is at least the model's capacity.

    With s = base + item x `batch_size(...)`, the time of one call:

    - Where the second of the two in `batch_size` is at least the first, the model is always busy: 1.5 s. An item waits
      half a call until the model is free, and then for its own call.
    - Else the first item waits w: the window, or (max_batch - 1) / rate where that is shorter (the batch is full before
      the window ends). Later items wait half of it: w x (1 + rate x w / 2) / (1 + rate x w) + s.

    The model's capacity is `batch_throughput(max_batch, ...)`.

    >>> batched_latency(20, base_seconds=0.1, item_seconds=0.025, window=0.05, max_batch=8)  # 1.5 x (0.1 + 0.1)
    0.30000000000000004
    """
    if rate >= batch_throughput(max_batch, base_seconds, item_seconds):
        return math.inf
    service = base_seconds + item_seconds * batch_size(rate, base_seconds, item_seconds, window, max_batch)
    if _arriving_meanwhile(rate, base_seconds, item_seconds) >= 1 + rate * window:
        return 1.5 * service
    wait = min(window, (max_batch - 1) / rate) if rate else window
    return wait * (1 + rate * wait / 2) / (1 + rate * wait) + service


def slots_needed(rate: float, tokens: int, prefill_seconds: float, token_seconds: float) -> int:
    """The fewest slots that can decode `rate` streams per second, when each holds a slot until its last token.

    Little's law: held slots = streams per second x seconds, rounded up to whole ones. A stream takes the prefill, which
    gives its first token, and `token_seconds` for each further one.

    >>> slots_needed(8, tokens=16, prefill_seconds=0.2, token_seconds=0.02)  # 8 x 0.5 s
    4
    """
    return math.ceil(round(rate * (prefill_seconds + (tokens - 1) * token_seconds), 9))


def _arriving_meanwhile(rate: float, base_seconds: float, item_seconds: float) -> float:
    """The batch that is as large as what arrives while it is served."""
    spare = 1 - rate * item_seconds
    return rate * base_seconds / spare if spare > 0 else math.inf
