"""Reads server-sent events, by the rules of the HTML standard (section 9.2.6), and the tokens in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from checks.harness.errors import Failure

_LINE_END = re.compile(rb"\r\n|\n|\r")
EVENT_HINT = 'A token is `data: {"token": "Hel"}` and an empty line: `json.dumps`, and two "\\n" behind it.'

END_HINT = "How a stream ended is an event with a name: a line `event: done`, or `event: error`, before its data."


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its name, empty where it has none, and its data."""

    name: str
    data: str

    def __str__(self) -> str:
        """As a reader of a failure sees it."""
        return f"event {self.name}: {self.data[:60]!r}" if self.name else repr(self.data[:60])


def events(body: bytes) -> list[Event]:
    """The events in what has come of a body so far; one that has not ended yet is not among them."""
    found: list[Event] = []
    name, data = "", list[str]()
    for raw in _LINE_END.split(body.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        line = raw.decode(errors="replace")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append(Event("" if name == "message" else name, "\n".join(data)))
            name, data = "", []
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return found


def token(event: Event) -> str:
    """The token in an event without a name."""
    match _json(event):
        case {"token": str(text), **more} if not more:
            return text
        case {"tokens": _} | {"detail": _}:
            hint = END_HINT
        case _:
            hint = EVENT_HINT
    raise AssertionError(
        Failure(f"an event without a name holds {event}", 'a token, `{"token": "..."}`, and no other key', hint)
    )


def ending(event: Event) -> Any:
    """What the last event says: the number of tokens of `done`, the words of `error`."""
    match event.name, _json(event):
        case "done", {"tokens": int(number), **more} if not more and type(number) is int:
            return number
        case "error", {"detail": str(words), **more} if not more:
            return words
    raise AssertionError(
        Failure(
            f"the stream has an {event}",
            '`event: done` with `{"tokens": 12}`, or `event: error` with `{"detail": "..."}`, and no other key',
            'One empty line ends an event, and its name stands in a line of its own: "event: done\\ndata: ...\\n\\n".',
        )
    )


def _json(event: Event) -> Any:
    try:
        return json.loads(event.data)
    except ValueError:
        return None
