"""The random walk sees what an admission control does wrong, and lets right ones pass."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from checks.harness.assertions.admission_walk import Stray, Walk


class Right:
    """A semaphore and a count: another right answer than the solution's."""

    def __init__(self, app: Any, max_in_flight: int, max_queue: int, queue_seconds: float) -> None:
        self.app, self.max_queue, self.seconds = app, max_queue, queue_seconds
        self.slots, self.waiting = asyncio.Semaphore(max_in_flight), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse, or wait for a slot."""
        if self.slots.locked() and self.waiting >= self.max_queue:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        self.waiting += 1
        try:
            await self.slots.acquire()
        finally:
            self.waiting -= 1
        await self.serve(scope, receive, send)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """What happens with a slot in hand."""
        try:
            await self.app(scope, receive, send)
        finally:
            self.slots.release()


class Leaky(Right):
    """A crash or a cancellation keeps its slot."""

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Without `finally`."""
        await self.app(scope, receive, send)
        self.slots.release()


class Generous(Right):
    """One slot more than was asked for."""

    def __init__(self, app: Any, max_in_flight: int, max_queue: int, queue_seconds: float) -> None:
        super().__init__(app, max_in_flight + 1, max_queue, queue_seconds)


class Swallowing(Right):
    """A crash becomes an answer."""

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Nobody hears of it."""
        try:
            await super().serve(scope, receive, send)
        except Exception:
            await send({"type": "http.response.body", "body": b"oops"})


class Mistaken(Right):
    """Its way out does not work."""

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """A name that there is not."""
        await self.app(scope, receive, send)
        self.slots.releas()  # type: ignore[attr-defined]


class Late(Right):
    """A callback of the loop does what cannot be done."""

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """The slot is given back a moment later, or would be."""
        try:
            await self.app(scope, receive, send)
        finally:
            asyncio.get_running_loop().call_soon(lambda: self.slots.releas())  # type: ignore[attr-defined]


def walked(control: Any, seed: int, steps: int = 300) -> dict[str, int]:
    """How many came to which end."""
    return dict(Walk(control, 3, 3, random.Random(seed)).go(steps))


@pytest.mark.parametrize("seed", range(5))
def test_a_right_answer_gets_to_the_end(seed: int) -> None:
    """On the way everything happens that can: served, refused, crashed, cancelled."""
    ends = walked(Right, seed)

    assert {"served", "refused", "crashed", "cancelled"} == set(ends)
    assert min(ends.values()) >= 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("control", "words"),
    [
        (Leaky, "a slot is lost"),
        (Generous, "4 requests are in the app together\nwanted: never more than 3"),
        (Swallowing, "a request that should be crashed is (served|answered without a status)"),
    ],
)
def test_a_wrong_answer_is_found(control: Any, words: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any walk, with the last steps in a table."""
    monkeypatch.setattr("checks.harness.assertions.admission_walk.LOOKS", 10)
    with pytest.raises(Stray, match=words) as stray:
        walked(control, seed)

    assert 1 <= len(stray.value.rows) <= 5


@pytest.mark.parametrize("control", [Mistaken, Late])
def test_an_exception_is_told_as_the_cause(control: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a request ended in it or a callback of the loop."""
    monkeypatch.setattr("checks.harness.assertions.admission_walk.LOOKS", 10)
    with pytest.raises(Stray) as stray:
        walked(control, 0)

    assert isinstance(stray.value.__cause__, AttributeError)
