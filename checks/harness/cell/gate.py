"""The model in a cell: each call of it waits for what the judge's probe lets it answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple, Protocol

from checks.harness.cell.batch_probe import Item, items_of
from checks.harness.cell.decoder_probe import Go
from checks.harness.cell.probe import no_numbers, numbers, on_event_loop
from checks.harness.cell.stacks import Lines, line_of
from checks.harness.cell.wire import encode
from checks.harness.errors import LearnerError

Said = dict[str, Any]
"""What the judge says to a call: `answer`, or `wrong`, what was seen and what is wanted and what mends it."""


class Tell(Protocol):
    """Sends the judge an event, a message that it does not answer."""

    def __call__(self, event: str, **more: Any) -> None:
        """Such as `tell("left", call=3)`."""


class Waiting(NamedTuple):
    """A call that waits for the judge."""

    go: Callable[[Said], None]
    thread: int
    blocks_loop: bool


class Gate:
    """The calls of this cell that wait for the judge."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._waiting: dict[int, Waiting] = {}
        self._numbers = itertools.count(1)
        self.moves = 0
        """Counts what happened here: it differs when something did."""

    def enter(
        self, probe: int, features: object, caller: FrameType, *, blocking: bool, go: Callable[[Said], None]
    ) -> int:
        """Tell the judge of a call of that probe, by the `caller`. `go` is called with what it says."""
        call, on_loop = self._begin(go, blocking=blocking)
        given: dict[str, Any] = {"features": None, "wrong": no_numbers(features)}
        if numbers(features):
            plain = [one if type(one) is int else float(one) for one in features]  # type: ignore[attr-defined]
            given = {"features": encode(plain, str), "wrong": None}
        line = [*line_of(caller)]
        thread = threading.get_native_id()
        where = {"blocking": blocking, "on_loop": on_loop, "thread": thread, "caller": line}
        self._tell("enter", probe=probe, call=call, **given, **where)
        return call

    def enter_batch(self, probe: int, items: list[Item], go: Callable[[Said], None]) -> int:
        """Tell the judge of a call of that batch probe. `go` is called with what it says."""
        call, on_loop = self._begin(go, blocking=True)
        told = {"items": encode([[*item] for item in items], str), "on_loop": on_loop}
        self._tell("enter batch", probe=probe, call=call, thread=threading.get_native_id(), **told)
        return call

    def decoder(self, probe: int, what: str, **more: Any) -> None:
        """Tell the judge what happened to the decoder of that probe."""
        self.moves += 1
        self._tell("decoder", probe=probe, what=what, **more)

    def ask_for_token(self, probe: int, stream: int, go: Go) -> int:
        """Tell the judge that a stream waits for its next token. `go` is called with what it says."""
        call, _ = self._begin(go, blocking=False)
        self._tell("decoder", probe=probe, what="asks", stream=stream, call=call)
        return call

    def _begin(self, go: Callable[[Said], None], *, blocking: bool) -> tuple[int, bool]:
        """The number of a new call, and whether an event loop runs on its thread."""
        call, on_loop = next(self._numbers), on_event_loop()
        self._waiting[call] = Waiting(go, threading.get_ident(), blocking and on_loop)
        self.moves += 1
        return call, on_loop

    def blocked(self, enter: Callable[[Callable[[Said], None]], int]) -> Said:
        """What the judge says to a call that blocks its thread until then. `enter` begins it."""
        said, over = list[Said](), threading.Event()

        def go(message: Said) -> None:
            said.append(message)
            over.set()

        call = enter(go)
        try:
            over.wait()
            return said[0]
        finally:
            self.leave(call)

    def go(self, call: int, said: Said) -> None:
        """Let a call go on."""
        if waiting := self._waiting.pop(call, None):
            self.moves += 1
            waiting.go(said)

    def leave(self, call: int) -> None:
        """Tell the judge that a call has ended, if it was not let go."""
        if self._waiting.pop(call, None):
            self.moves += 1
            self._tell("left", call=call)

    def holds(self, thread: int) -> bool:
        """Whether a call waits on this thread although an event loop runs there: nothing else can run on that loop."""
        return any(waiting.thread == thread and waiting.blocks_loop for waiting in [*self._waiting.values()])


class Probe:
    """Stands in a cell for the probe that the judge has, as the learner's model."""

    def __init__(self, gate: Gate, number: int) -> None:
        self._gate, self._number = gate, number

    async def predict(self, features: Sequence[float]) -> float:
        """What an endpoint awaits."""
        loop = asyncio.get_running_loop()
        said: asyncio.Future[Said] = loop.create_future()

        def go_on(message: Said) -> None:
            if not said.done():
                said.set_result(message)

        def go(message: Said) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(go_on, message)

        call = self._gate.enter(self._number, features, sys._getframe(1), blocking=False, go=go)
        try:
            return _answer(await said)
        finally:
            self._gate.leave(call)

    def predict_blocking(self, features: Sequence[float]) -> float:
        """What blocks the thread that calls it."""
        caller = sys._getframe(1)
        said = self._gate.blocked(lambda go: self._gate.enter(self._number, features, caller, blocking=True, go=go))
        return _answer(said)


class BatchProbe:
    """Stands in a cell for the batch probe that the judge has, as the learner's batch model."""

    def __init__(self, gate: Gate, number: int) -> None:
        self._gate, self._number = gate, number

    def predict_batch(self, batch: Sequence[Sequence[float]]) -> list[float]:
        """What blocks the thread that calls it."""
        items = items_of(batch)
        said = self._gate.blocked(lambda go: self._gate.enter_batch(self._number, items, go))
        return [float(one) for one in said["answer"]]


class DecoderPort:
    """Tells the judge's `DecoderProbe` what it would be told directly: see `decoder_probe.Port`."""

    def __init__(self, gate: Gate, number: int) -> None:
        self._gate, self._number = gate, number

    def wants(self, caller: Lines) -> None:
        """A stream asks for a slot."""
        self._gate.decoder(self._number, "wants", caller=caller)

    def holds(self) -> None:
        """A stream has got its slot."""
        self._gate.decoder(self._number, "holds")

    def gives_back(self, *, held: bool, caller: Lines) -> None:
        """A slot was released."""
        self._gate.decoder(self._number, "gives back", held=held, caller=caller)

    def misused(self, given: list[str], caller: Lines) -> None:
        """`generate` was given this."""
        self._gate.decoder(self._number, "misused", given=given, caller=caller)

    def begins(self, stream: int, prompt: str, max_tokens: int, *, held: bool, caller: Lines) -> None:
        """`generate` was called."""
        told = {"stream": stream, "prompt": prompt, "max_tokens": max_tokens, "held": held, "caller": caller}
        self._gate.decoder(self._number, "begins", **told)

    def asks(self, stream: int, go: Go) -> int:
        """A stream waits for its next token."""
        return self._gate.ask_for_token(self._number, stream, go)

    def gave_up(self, question: int) -> None:
        """It does not wait any more."""
        self._gate.leave(question)

    def ends(self, stream: int) -> None:
        """`generate` has ended."""
        self._gate.decoder(self._number, "ends", stream=stream)


def _answer(said: Said) -> float:
    if "wrong" in said:
        seen, wanted, hint = said["wrong"]
        raise LearnerError(seen, wanted=wanted, hint=hint)
    return float(said["answer"])
