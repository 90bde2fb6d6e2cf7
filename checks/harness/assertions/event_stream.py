"""What the events of a streamed answer have to hold: tokens, and how it ended."""

from __future__ import annotations

import json
from typing import Any

from checks.harness.errors import Failure
from checks.harness.load.event_stream import Event

EVENT_HINT = 'A token is `data: {"token": "Hel"}` and an empty line: `json.dumps`, and two "\\n" behind it.'

END_HINT = "The last event of a stream has a name: a line `event: done`, or `event: error`, before its data."


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
