"""A small HTTP client for a few requests to a server that may not be ready, or may be ending."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

FEATURES = b'{"features": [1.0, 2.0, 6.0]}'
"""The body of a prediction request, wherever its numbers do not matter."""

_KEPT_BYTES = 65536
_LEAST_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status and a body, or the `error` in their place."""

    status: int | None
    text: str = ""
    error: Exception | None = None

    @property
    def pid(self) -> int | None:
        """The "pid" in the JSON body of a 200, which says which worker answered."""
        if self.status != 200:
            return None
        with contextlib.suppress(ValueError, TypeError, KeyError):
            pid = json.loads(self.text)["pid"]
            return pid if isinstance(pid, int) else None
        return None


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> Answer:
    """Send one request over this connection, which it opens where it is not open yet, and wait for the answer."""
    try:
        _send(connection, method, path, body)
        return _receive(connection)
    except (OSError, HTTPException) as error:
        return Answer(None, error=error)


def ask_once(
    address: tuple[str, int], path: str, seconds: float, *, method: str = "GET", body: bytes | None = None
) -> Answer:
    """Send one request over a new connection; connecting and each read may take so many seconds."""
    with contextlib.closing(HTTPConnection(*address, timeout=seconds)) as connection:
        return ask(connection, method, path, body)


def ask_together(address: tuple[str, int], path: str, connections: int, end: float) -> list[Answer]:
    """`GET path` over so many new connections, until `end` on the monotonic clock.

    All are open before the first request is sent: one after the other, the same worker may take each of them.
    """
    answers: list[Answer] = []
    exchanges = [_exchange(address, path, end, answers) for _ in range(connections)]
    for _ in ("connect", "send", "receive"):
        for exchange in exchanges:
            next(exchange, None)
    return answers


def _exchange(address: tuple[str, int], path: str, end: float, answers: list[Answer]) -> Iterator[None]:
    with contextlib.closing(HTTPConnection(*address, timeout=_until(end))) as connection:
        try:
            connection.connect()
            yield
            _send(connection, "GET", path, None)
            yield
            connection.sock.settimeout(_until(end))
            answers.append(_receive(connection))
        except (OSError, HTTPException) as error:
            answers.append(Answer(None, error=error))


def _until(end: float) -> float:
    return max(_LEAST_SECONDS, end - time.monotonic())


def _send(connection: HTTPConnection, method: str, path: str, body: bytes | None) -> None:
    connection.request(method, path, body, {"content-type": "application/json"} if body else {})


def _receive(connection: HTTPConnection) -> Answer:
    with connection.getresponse() as response:
        return Answer(response.status, response.read(_KEPT_BYTES).decode(errors="replace"))
