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
    its own. Waiting sets no limit to "async": `math.inf`. Any other kind is a ValueError.

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
