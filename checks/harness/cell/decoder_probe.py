"""A decoder for the learner's service that counts slots, and lets the tokens of each stream out one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from checks.harness.cell.stacks import Lines

Said = dict[str, Any]
"""What is said to a stream that waits for its next token: `token`, a text; `fail`, words; or `end`."""

Go = Callable[[Said], None]


@dataclass(slots=True, eq=False)
class Decoding:
    """One call of `generate`. Times are `time.perf_counter()` seconds."""

    prompt: str
    max_tokens: int
    caller: Lines = field(default_factory=list, repr=False)
    """Where it is called."""
    let_out: list[float] = field(default_factory=list)
    """When each of its tokens was let out."""
    asks: bool = False
    """Whether it waits for its next token now."""
    closed: bool = False
    """Whether it has ended: at its last token, by an exception, or because it was given up."""
    go: Go = field(default=lambda _: None, repr=False)


class Port(Protocol):
    """Where a decoder in the learner's service says what happens to it, and asks for tokens."""

    def wants(self, caller: Lines) -> None:
        """A stream asks for a slot."""

    def holds(self) -> None:
        """A stream has got its slot."""

    def gives_back(self, *, held: bool, caller: Lines) -> None:
        """A slot was released; `held` says whether any was held."""

    def misused(self, given: list[str], caller: Lines) -> None:
        """`generate` was given this, and not a prompt and a number of tokens."""

    def begins(self, stream: int, prompt: str, max_tokens: int, *, held: bool, caller: Lines) -> None:
        """`generate` was called; `held` says whether any slot is held."""

    def asks(self, stream: int, go: Go) -> int:
        """A stream waits for its next token: `go` is called with what is said to it. The number of the question."""

    def gave_up(self, question: int) -> None:
        """The stream does not wait any more, whether it was answered or not."""

    def ends(self, stream: int) -> None:
        """`generate` has ended."""


class DecoderProbe:
    """What a checkpoint knows of the decoder, and what it tells it.

    Attributes:
        slots: how many streams can hold one.
        wanted: when each slot was asked for; `acquired_at` is where the last one was.
        released_at: where each slot was released.
        taken: when each slot was got; `holders` is how many are held now, `most` the most that were.
        refused_releases: how often a slot was released while none was held.
        unslotted: calls of `generate` while no slot was held at all.
        misuses: what `generate` was given in the place of a prompt and a number of tokens, and where it was called.
        decodings: the calls of `generate`, in their order.
    """

    held = False
    """None of its calls blocks a thread: see `Gated.blocked_loop`."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.wanted: list[float] = []
        self.acquired_at: Lines = []
        self.released_at: list[Lines] = []
        self.taken: list[float] = []
        self.holders = 0
        self.most = 0
        self.refused_releases = 0
        self.unslotted = 0
        self.misuses: list[tuple[list[str], Lines]] = []
        self.decodings: list[Decoding] = []
        self._streams: dict[int, Decoding] = {}
        self._questions: dict[int, Decoding] = {}
        self._moves = 0

    def progress(self) -> int:
        """Differs when something happened."""
        return self._moves

    def blocked_loop(self, _: int) -> None:
        """No loop stands still for it."""

    def of(self, prompt: str) -> list[Decoding]:
        """The calls of `generate` with this prompt."""
        return [one for one in self.decodings if one.prompt == prompt]

    def let(self, decoding: Decoding, token: str) -> None:
        """Let a token out."""
        decoding.let_out.append(time.perf_counter())
        self._say(decoding, {"token": token})

    def end(self, decoding: Decoding) -> None:
        """Let the decoder say that the answer is over."""
        self._say(decoding, {"end": True})

    def fail(self, decoding: Decoding, words: str) -> None:
        """Let the decoder raise."""
        self._say(decoding, {"fail": words})

    def _say(self, decoding: Decoding, said: Said) -> None:
        decoding.asks = False
        decoding.go(said)

    # -- the port

    def wants(self, caller: Lines) -> None:
        """See `Port`."""
        self._moves += 1
        self.wanted.append(time.perf_counter())
        self.acquired_at = caller

    def holds(self) -> None:
        """See `Port`."""
        self._moves += 1
        self.taken.append(time.perf_counter())
        self.holders += 1
        self.most = max(self.most, self.holders)

    def gives_back(self, *, held: bool, caller: Lines) -> None:
        """See `Port`."""
        self._moves += 1
        self.released_at.append(caller)
        self.holders -= held
        self.refused_releases += not held

    def misused(self, given: list[str], caller: Lines) -> None:
        """See `Port`."""
        self._moves += 1
        self.misuses.append((given, caller))

    def begins(self, stream: int, prompt: str, max_tokens: int, *, held: bool, caller: Lines) -> None:
        """See `Port`."""
        self._moves += 1
        self.unslotted += not held
        self._streams[stream] = Decoding(prompt, max_tokens, caller)
        self.decodings.append(self._streams[stream])

    def asks(self, stream: int, go: Go) -> int:
        """See `Port`."""
        self._moves += 1
        decoding = self._streams[stream]
        decoding.go, decoding.asks = go, True
        question = self._moves
        self._questions[question] = decoding
        return question

    def gave_up(self, question: int) -> None:
        """See `Port`."""
        self._moves += 1
        self._questions.pop(question).asks = False

    def ends(self, stream: int) -> None:
        """See `Port`."""
        self._moves += 1
        self._streams[stream].closed = True
