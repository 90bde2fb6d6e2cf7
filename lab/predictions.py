"""What queue arithmetic says before anything is measured."""

from lab.settings import THREAD_POOL_SIZE


def burst_seconds(kind: str, requests: int, seconds: float, threads: int = THREAD_POOL_SIZE) -> float:
    """How long a burst takes until its last answer: `requests` arrive together, the model needs `seconds` for each.

    `kind` says how the endpoint calls the model: "async" (awaits it), "threaded" (blocks one of `threads` pool
    threads) or "blocking" (blocks the event loop). No requests take 0.0 s; any other kind is a ValueError.

    >>> burst_seconds("threaded", requests=41, seconds=0.5, threads=40)  # the 41st waits for a thread
    1.0
    """
    raise NotImplementedError("1.8: burst_seconds")
