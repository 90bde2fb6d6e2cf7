"""Reads server-sent events, by the rules of the HTML standard (section 9.2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from checks.harness.errors import cut

_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|\n|\r)")
_MARK = b"\xef\xbb\xbf"
"""A byte order mark, which may stand at the beginning."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its name, empty where it has none, and its data."""

    name: str
    data: str

    def __str__(self) -> str:
        """As a reader of a failure sees it."""
        return f"event {self.name}: {cut(self.data)!r}" if self.name else repr(cut(self.data))


def events(body: bytes) -> list[Event]:
    """The events in what has come of a body so far; one that has not ended yet is not among them."""
    return [event for event, _ in placed(body)]


def placed(body: bytes) -> Iterator[tuple[Event, int]]:
    """The same, each with how many bytes of the body had come when it ended."""
    name, data = "", list[str]()
    for found in _LINE.finditer(body, len(_MARK) if body.startswith(_MARK) else 0):
        line = found[1].decode(errors="replace")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event("" if name == "message" else name, "\n".join(data)), found.end()
            name, data = "", []
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
