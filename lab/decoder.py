"""Given: a language model that writes its answer token by token, for a few streams at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

MAX_TOKENS = 512
"""Tokens of one answer at most."""


class SimulatedDecoder:
    """A decoder with a few slots. A stream holds one from `acquire` to `release`, and decodes meanwhile.

    The first token takes `prefill_seconds` (the model reads the prompt), each further one `token_seconds`, however many
    slots are held: a GPU decodes them together.
    """

    def __init__(self, slots: int, prefill_seconds: float, token_seconds: float) -> None:
        """Start with all slots free."""
        self.slots = slots
        self.prefill_seconds = prefill_seconds
        self.token_seconds = token_seconds
        self.free = slots
        """Slots that no stream holds."""
        self._turns: deque[asyncio.Future[None]] = deque()  # the longest waiting first

    @property
    def waiting(self) -> int:
        """How many wait in `acquire`."""
        return sum(not turn.done() for turn in self._turns)

    async def acquire(self) -> None:
        """Wait for a slot, and take it: first come, first served. A caller that is cancelled meanwhile holds none."""
        if self.free:
            self.free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                if turn in self._turns:
                    self._turns.remove(turn)
            else:
                self.release()  # cancelled in the very instant in which it was given one
            raise

    def release(self) -> None:
        """Give one slot back. It goes to the longest waiting at once, else it is free.

        Raises `RuntimeError` where no slot is held.
        """
        if self.free >= self.slots:
            raise RuntimeError("release: no slot is held")
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    async def generate(self, prompt: str, max_tokens: int) -> AsyncGenerator[str, None]:
        """The tokens of an answer, one by one: here the words of the prompt, over and over, `max_tokens` of them.

        Only for a stream that holds a slot: raises `RuntimeError` where none is held at all.
        """
        if self.free >= self.slots:
            raise RuntimeError("generate: no slot is held; `await decoder.acquire()` comes first")
        words = prompt.split() or [prompt]
        await asyncio.sleep(self.prefill_seconds)
        for number in range(max_tokens):
            if number:
                await asyncio.sleep(self.token_seconds)
            yield words[number % len(words)] + " "
