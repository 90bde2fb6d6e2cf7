"""Requests to a bare admission control: they come, go on and are cancelled as they are told, in one turn of a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from checks.harness.cell.exchange import App, Exchange

TURNS = 30
"""Turns of the loop after which a right answer has long done what a step asks for."""

Control = Callable[..., App]
Deed = tuple[str, int, str]
"""`arrive`, `connect` (a WebSocket), `go` or `cancel`, which visitor, and of `go` the word that ends its answer."""


class Crash(Exception):
    """What a visitor ends in that is told to go on without a word."""


class TimedOut(Crash, TimeoutError):
    """The same before the answer has begun: a time limit of the app's own, and none of the wait for a slot."""


class Told(Protocol):
    """Is told that a visitor is `inside` the app behind the control, or has ended: how, and with which answer."""

    def __call__(
        self, visitor: int, how: str, status: int | None = None, body: bytes = b"", error: BaseException | None = None
    ) -> None:
        """`how`: `inside`, `answered`, `cancelled`, `crashed`, `raised`; a callback's exception is visitor -1's."""


class Visitors:
    """The visitors of one control. Its loop runs while a step is taken, and stands still in between."""

    def __init__(self, control: Control, numbers: dict[str, Any], told: Told) -> None:
        self._told = told
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._callback_failed)
        self._gates: dict[int, asyncio.Future[str]] = {}
        self._tasks: dict[int, asyncio.Task[Any]] = {}

        async def make() -> App:
            return control(self._serve, **numbers)

        self._app = self._loop.run_until_complete(make())

    def step(self, deeds: Iterable[Deed], seconds: float = 0.0) -> None:
        """Do all this at once, and then let the loop run for `TURNS` turns, or for so many seconds."""

        async def run() -> None:
            if seconds:
                await asyncio.sleep(seconds)
            else:
                for _ in range(TURNS):
                    await asyncio.sleep(0)

        for deed in deeds:
            self._do(*deed)
        self._loop.run_until_complete(run())

    def end(self) -> None:
        """Cancel all who are left."""

        async def over() -> None:
            left = [*self._tasks.values()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self._loop.run_until_complete(over())
        self._loop.close()

    def _do(self, what: str, visitor: int, word: str) -> None:
        match what:
            case "arrive" | "connect":
                exchange = Exchange("POST", "/predict")
                exchange.scope["visitor"] = visitor
                if what == "connect":
                    exchange.scope["type"] = "websocket"
                task = self._tasks[visitor] = self._loop.create_task(exchange.run(self._app))
                task.add_done_callback(lambda task: self._ended(visitor, exchange, task))
            case "cancel":
                if task_now := self._tasks.get(visitor):
                    task_now.cancel()
            case _:
                if (gate := self._gates.get(visitor)) and not gate.done():
                    gate.set_result(word)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - the signature is ASGI's
        """The app behind the control: its answer begins at once, and is held before its last piece.

        Of every third visitor it is held before it begins.
        """
        gate = self._gates[scope["visitor"]] = self._loop.create_future()
        self._told(scope["visitor"], "inside")
        late = scope["visitor"] % 3 == 2
        if (late or scope["type"] == "websocket") and not await gate:
            raise TimedOut
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        word = await gate
        if not word:
            raise Crash
        await send({"type": "http.response.body", "body": word.encode()})

    def _ended(self, visitor: int, exchange: Exchange, task: asyncio.Task[Any]) -> None:
        del self._tasks[visitor]
        self._gates.pop(visitor, None)
        if task.cancelled():
            self._told(visitor, "cancelled")
        elif error := task.exception():
            how, told = ("crashed", None) if isinstance(error, Crash) else ("raised", error)
            self._told(visitor, how, error=told)
        else:
            self._told(visitor, "answered", exchange.status, exchange.body)

    def _callback_failed(self, _: object, context: dict[str, Any]) -> None:
        """Tell what a callback raised; a task's exception that was never retrieved does not count."""
        if "handle" in context and "exception" in context:
            self._told(-1, "raised", error=context["exception"])
