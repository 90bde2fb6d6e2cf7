"""The decoder that takes the place of the learner's: its tokens wait until the checkpoint lets them out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncGenerator
from typing import Any

from checks.harness.cell.decoder_probe import Port, Said
from checks.harness.cell.stacks import called_from

CALLERS = 12
"""Lines of a stack that are told at most."""
MOST_WORDS = 60
"""Characters of a wrong argument that are told at most."""


class HeldDecoder:
    """As the given `SimulatedDecoder`, whose slots it has, but each token comes when `port` says so."""

    def __init__(self, slots: Any, port: Port) -> None:
        self._slots, self._port = slots, port
        self._numbers = itertools.count(1)

    @property
    def slots(self) -> int:
        """How many streams can hold one."""
        return int(self._slots.slots)

    @property
    def free(self) -> int:
        """Slots that no stream holds."""
        return int(self._slots.free)

    @property
    def waiting(self) -> int:
        """How many wait in `acquire`."""
        return int(self._slots.waiting)

    async def acquire(self) -> None:
        """Wait for a slot, and take it."""
        self._port.wants(called_from(sys._getframe(1), CALLERS))
        await self._slots.acquire()
        self._port.holds()

    def release(self) -> None:
        """Give one slot back. Raises `RuntimeError`, and says so, where no slot is held."""
        caller = called_from(sys._getframe(1), CALLERS)
        try:
            self._slots.release()
        except RuntimeError:
            self._port.gives_back(held=False, caller=caller)
            raise
        self._port.gives_back(held=True, caller=caller)

    async def generate(self, prompt: object = None, max_tokens: object = None) -> AsyncGenerator[str, None]:
        """The tokens that the checkpoint lets out, at most `max_tokens`. Raises `TypeError` for other arguments."""
        caller = called_from(sys._getframe(1), CALLERS)
        if type(prompt) is not str or type(max_tokens) is not int:
            given = [repr(one)[:MOST_WORDS] for one in (prompt, max_tokens)]
            self._port.misused(given, caller)
            raise TypeError(f"generate was given {' and '.join(given)}")
        stream, held = next(self._numbers), self.free < self.slots
        self._port.begins(stream, prompt, max_tokens, held=held, caller=caller)
        try:
            if not held:
                raise RuntimeError("generate: no slot is held; `await decoder.acquire()` comes first")
            for _ in range(max_tokens):
                said = await self._said(stream)
                if "fail" in said:
                    raise RuntimeError(said["fail"])
                if "token" not in said:
                    return
                yield said["token"]
        finally:
            self._port.ends(stream)

    async def _said(self, stream: int) -> Said:
        loop = asyncio.get_running_loop()
        said: asyncio.Future[Said] = loop.create_future()

        def go_on(message: Said) -> None:
            if not said.done():
                said.set_result(message)

        def go(message: Said) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(go_on, message)

        question = self._port.asks(stream, go)
        try:
            return await said
        finally:
            self._port.gave_up(question)
