"""Reads an answer; where it is not what was wanted, says so in words for a learner."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from checks.harness.errors import Failure, LearnerError, cut
from checks.harness.missing_await import where_not_awaited
from checks.harness.plain_words import describe, hint_for, is_explained
from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    import httpx


def content(answer: httpx.Response, hint: str = "", where: str | None = None) -> dict[str, Any]:
    """The JSON object in an answer. Where it is none: the hint, and the line to change."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    assert isinstance(body, dict), Failure(
        f"{answer.url.path} answered {cut(answer.text)!r}", wanted="a JSON object", hint=hint, where=where
    )
    return body


def is_number(value: object) -> bool:
    """A float, or an integer in its place; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def close(value: float, expected: float) -> bool:
    """Equal but for the last digits of floating point."""
    return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)


def short(numbers: Sequence[float]) -> str:
    """The first few of many numbers."""
    return ", ".join(f"{number:.6g}" for number in numbers[:3]) + (", ..." if len(numbers) > 3 else "")


def calls_inside(together: int, of: int) -> str:
    """How many of so many calls were in the model at the same time, in words."""
    if together == 1:
        return f"only 1 of {of} calls was in the model at a time"
    return f"{together} of {of} calls were in the model together"


@contextmanager
def calling(what: str, lines: SourceLines, hint: str = "", *, of_its_own: bool = False) -> Iterator[None]:
    """Around a call of the learner's code: if it raises, the message says what was called.

    `hint` is for an exception that has none of its own; with `of_its_own` for one that has a general hint, too, but no
    known cause.
    """
    try:
        yield
    except (NotImplementedError, LearnerError, AssertionError):
        raise
    except Exception as error:
        general = hint_for(error)
        mends = hint if of_its_own and not is_explained(error) else general or hint
        where = where_not_awaited(error, lines) or lines.where_raised(error.__traceback__)
        raise LearnerError(f"{what} raised {describe(error)}", where, wanted="no exception", hint=mends) from error


def json_lines(output: str) -> list[dict[str, Any]]:
    """The JSON objects among a program's lines.

    `print` writes a text and its line end one after the other. Where two threads print at once, two objects can stand
    on one line, and an empty line behind them: they count, as far as there are empty lines for them.
    """
    found: list[dict[str, Any]] = []
    lines = [line.strip() for line in output.splitlines()]
    ends_left = lines.count("")
    for line in filter(None, lines):
        objects = _objects(line)
        allowed = 1 + min(max(0, len(objects) - 1), ends_left)
        ends_left -= allowed - 1
        found += objects[:allowed]
    return found


def _objects(line: str) -> list[dict[str, Any]]:
    """The objects on a line that holds nothing else."""
    found, at = [], 0
    while at < len(line):
        try:
            value, at = json.JSONDecoder().raw_decode(line, at)
        except ValueError:
            return []
        if not isinstance(value, dict):
            return []
        found.append(value)
    return found
