"""Admission control: a request that cannot be served soon is refused at once. Then all others are served in time."""

from collections.abc import Callable
from typing import Any

GUARDED = "/predict"
"""The path that is guarded, with all below it. Health checks and metrics must answer in an overload most of all."""


class AdmissionControl:
    """Lets `max_in_flight` requests into the app, keeps `max_queue` waiting, and refuses the rest.

    Pure ASGI, for one event loop. Guards the path `GUARDED` and all below it; other paths, and what is not HTTP, pass.

    - A request holds its slot until the app returns: after its last byte, with an exception, or with a cancellation.
    - A freed slot goes to the request that waits longest. Newcomers never overtake; `max_queue=0` means no waiting.
    - A request that has waited `queue_seconds` since it arrived is refused and never reaches the app. A request that is
      refused or cancelled while it waits frees its place at once. Work that has begun is never cut off.
    - A refusal is a 503 with `Retry-After`: whole seconds, at least 1.

    With max_in_flight=2 and max_queue=1, four requests that arrive together: two are served, the third waits until one
    of them has ended, the fourth gets its 503 at once.
    """

    def __init__(self, app: Callable[..., Any], max_in_flight: int, max_queue: int, queue_seconds: float) -> None:
        """Start with all slots free and an empty queue, in front of `app`."""
        raise NotImplementedError("4.5: AdmissionControl")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve, or refuse, one request."""
        raise NotImplementedError("4.5: AdmissionControl")
