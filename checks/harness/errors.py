"""Every exception that becomes a verdict, and the `Failure` that it carries to the card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text as any report and any terminal may show it.

    Control characters, line ends and tabs aside, and lone surrogates are spelled out: a learner's words must not move
    the cursor, clear the screen or turn the direction of what is read.
    """
    text = text.encode("utf-8", "backslashreplace").decode().replace("\r\n", "\n")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def cut(text: str, most: int = 60) -> str:
    """The text in at most so many characters; three dots stand for the rest."""
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def all_printable(data: Any) -> Any:
    """What JSON said, with every text in it made printable."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, list):
        return [all_printable(one) for one in data]
    if isinstance(data, dict):
        return {printable(str(key)): all_printable(value) for key, value in data.items()}
    return data


@dataclass(frozen=True, slots=True)
class Failure:
    """What a learner reads about work that is not right yet: the message of a checkpoint's `assert`.

    `seen` is what happened, in a sentence. `wanted` is what a right answer does. `hint` mends exactly this failure, and
    is empty where no hint is known to. `where` is the learner's line that has to change, as `SourceLines` gives it.
    `why` says why this matters where the checkpoint's own reason is about something else.
    """

    seen: str
    wanted: str = ""
    hint: str = ""
    where: str | None = None
    why: str = ""

    def __post_init__(self) -> None:
        """Make every text one that a report can hold."""
        for name in ("seen", "wanted", "hint", "why"):
            object.__setattr__(self, name, printable(getattr(self, name)))
        object.__setattr__(self, "where", self.where and printable(self.where))

    def __str__(self) -> str:
        """The same as text, for pytest's own output."""
        wanted = f"\nwanted: {self.wanted}" if self.wanted else ""
        return f"{self.seen}{wanted}" + (f"\ntry: {self.hint}" if self.hint else "")


class LearnerError(Exception):
    """The learner's work is not right: the verdict is *failed*.

    `explains_itself` says that neither a reason why nor a general hint can add to it: it is about Python, or a file
    that is missing, not about latency.
    """

    def __init__(
        self,
        seen: str,
        where: str | None = None,
        *,
        wanted: str = "",
        hint: str = "",
        why: str = "",
        explains_itself: bool = False,
    ) -> None:
        self.failure = Failure(seen, wanted, hint, where, why)
        self.explains_itself = explains_itself
        super().__init__(seen)

    def __str__(self) -> str:
        """The failure as text."""
        return str(self.failure)

    @property
    def where(self) -> str | None:
        """The learner's line."""
        return self.failure.where


class StubError(LearnerError):
    """A part that is still to be written: the verdict is *not started*. It says which checkpoint waits for it."""


class Unanswered(LearnerError):
    """The app returned without a whole answer."""


class BrokenOff(LearnerError):
    """A request that ended in a `TimeoutError` or a cancellation of the learner's own: `ended` names it."""

    def __init__(self, seen: str, where: str | None, ended: str, *, wanted: str = "") -> None:
        super().__init__(seen, where, wanted=wanted)
        self.ended = ended


class NoAnswer(LearnerError):
    """A request that got no answer, and never will: `why` in words, and the learner's line."""

    def __init__(self, asked: str, why: str, where: str | None) -> None:
        super().__init__(f"{asked} got no answer: {why}", where)


class LostAnswer(LearnerError):
    """A request over an open connection got no answer at all.

    Its server has ended, or has closed the connection: uvicorn does so where no request has come for 5 s.
    """


class CellEnded(BaseException):
    """The process with the learner's code has ended, or sent what is no answer: the verdict is *failed*.

    No `Exception`: what a checkpoint catches around a call is what the learner's function raises.
    """


class Inconclusive(Exception):
    """The machine was too busy to tell right from wrong: the verdict is *inconclusive*.

    `likely` is the failure that it would have been on an idle machine: the card shows what mends that, too.
    """

    def __init__(self, reason: str, likely: Failure | None = None) -> None:
        self.failure = Failure(reason)
        if likely:
            hint = f"If it is so on an idle machine, too: {likely.hint}" if likely.hint else ""
            self.failure = Failure(f"{reason}. Seen: {likely.seen}", likely.wanted, hint, likely.where)
        super().__init__(reason)


class NotChecked(Exception):
    """This machine lacks what it takes to tell right from wrong (an engine, a base image): the verdict is *locked*."""

    def __init__(self, reason: str, *, wanted: str = "") -> None:
        self.reason = reason
        self.failure = Failure(f"not checked here: {reason}", wanted)
        super().__init__(reason)

    def __str__(self) -> str:
        """The reason, marked as no failure."""
        return str(self.failure)


class Needs(NotChecked):
    """A mistake that the checkpoint `checkpoint` reports keeps this one from running: the verdict is *locked*."""

    def __init__(self, checkpoint: str, reason: str) -> None:
        super().__init__(reason)
        self.failure = Failure(f"needs {checkpoint} first: {reason}")


_SHOWN_LINES = 8


class ServerError(LearnerError):
    """A server that did not get ready.

    Attributes:
        reason: what happened, in a sentence or two.
        output: the last lines that the server printed.
    """

    def __init__(self, reason: str, output: str) -> None:
        self.reason, self.output = reason, output
        shown = "\n".join(f"    {line}" for line in output.splitlines()[-_SHOWN_LINES:])
        super().__init__(f"{reason}\nIts last lines:\n{shown}" if shown else f"{reason} It printed nothing.")


class ServerDied(ServerError):
    """A server that ended, or whose workers ended again and again, before it was ready.

    Attributes:
        exit_code: of the main process, -N for signal N; None when only its workers ended.
    """

    def __init__(self, reason: str, output: str, exit_code: int | None) -> None:
        super().__init__(reason, output)
        self.exit_code = exit_code


class ServerNotReady(ServerError):
    """A server that lives, but was not ready in time.

    Attributes:
        busy: whether the machine was too busy for that to mean anything.
    """

    def __init__(self, reason: str, output: str, *, busy: bool = False) -> None:
        super().__init__(reason, output)
        self.busy = busy
