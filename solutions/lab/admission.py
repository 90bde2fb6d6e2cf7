"""Admission control: a request that cannot be served soon is refused at once. Then all others are served in time."""

import asyncio
import json
import math
from collections import deque
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
        self.app = app
        self.max_queue = max_queue
        self.queue_seconds = queue_seconds
        self._free = max_in_flight
        self._waiting: deque[asyncio.Future[bool]] = deque()  # the longest waiting first; True is a slot, False none
        retry_after = str(max(1, math.ceil(queue_seconds)))
        self._refusal = json.dumps({"detail": f"overloaded: try again in {retry_after} s"}).encode()
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._refusal)).encode()),
            (b"retry-after", retry_after.encode()),
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve, or refuse, one request."""
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{GUARDED}/"):
            await self.app(scope, receive, send)
        elif await self._admitted():
            try:
                await self.app(scope, receive, send)
            finally:
                self._give_slot_back()
        else:
            await send({"type": "http.response.start", "status": 503, "headers": self._headers})
            await send({"type": "http.response.body", "body": self._refusal})

    async def _admitted(self) -> bool:
        """Whether the request has got a slot. Nothing is awaited between a check and its claim."""
        if self._free:  # then nobody waits: a slot that comes back goes to whoever does
            self._free -= 1
            return True
        if len(self._waiting) >= self.max_queue:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self.queue_seconds, self._leave, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._give_slot_back()  # cancelled in the very instant in which it was given one
            raise
        finally:
            timer.cancel()
            self._leave(turn)

    def _leave(self, turn: "asyncio.Future[bool]") -> None:
        """Stop waiting, if it still waits."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        if not turn.done():
            turn.set_result(False)

    def _give_slot_back(self) -> None:
        """Hand a slot to the request that waits longest, or put it with the free ones."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._free += 1
