"""7.4 and 7.5 on a real uvicorn: tokens over a socket, and a socket that is closed."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from checks.harness.assertions import event_stream
from checks.harness.cell.held_app import ROUTE, Known
from checks.harness.errors import Failure, Inconclusive
from checks.harness.fixtures import HELD_DECODER
from checks.harness.load.event_stream import events
from checks.harness.machine import FairClock, load_in_words
from checks.harness.processes.servers import Server
from checks.harness.processes.single_requests import ask
from checks.support.ex7.leaving import LISTEN
from checks.support.ex7.streams import PATH

SLOTS = 2
LIMIT = 10.0
"""Seconds of an idle machine after which something hangs."""
LOOK = 0.01
ALONE = (
    "The app works in the process of the checks, but not under uvicorn. Start it by hand, and ask it with `curl -N`."
)

Serve = Callable[..., Server]


class OnASocket:
    """One stream over a connection of its own."""

    def __init__(self, server: Server, clock: FairClock) -> None:
        self.prompt = secrets.token_hex(4)
        self._body, self._clock = b"", clock
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)
        body = json.dumps({"prompt": self.prompt, "max_tokens": 8})
        self._connection.request("POST", PATH, body, {"content-type": "application/json"})
        self._response: HTTPResponse | None = None

    def token(self, number: int) -> str | None:
        """Its token of this number, counted from 0; None where none came in time."""
        with contextlib.suppress(OSError, HTTPException):
            self._response = self._response or self._connection.getresponse()
            while len(found := [one for one in events(self._body) if not one.name]) <= number:
                if not (piece := self._response.read1()):
                    return None
                self._body += piece
            return event_stream.token(found[number])
        return None

    def close(self) -> None:
        """Close the connection in the middle, as a reader does that goes away."""
        if self._response:
            self._response.close()
        self._connection.close()


class OnUvicorn:
    """The learner's app on uvicorn, around the held decoder."""

    def __init__(self, serve: Serve) -> None:
        self.server = serve(app=HELD_DECODER, decoder_slots=SLOTS)
        self._clock = FairClock()
        self._beside = HTTPConnection("127.0.0.1", self.server.port, timeout=LIMIT)

    def _known(self, let: dict[str, str] | None = None) -> Known | None:
        body = None if let is None else json.dumps(let).encode()
        answer = ask(self._beside, "GET" if let is None else "POST", ROUTE, body)
        return Known.model_validate_json(answer.text) if answer.status == 200 else None

    def _until(self, done: Callable[[Known], object], seen: str, wanted: str, hint: str) -> None:
        """Ask until the decoder knows this. A machine that is too busy for that is no failure."""
        clock = FairClock()
        while not ((known := self._known()) and done(known)):
            if clock.seconds() > LIMIT:
                raise AssertionError(Failure(seen.format(known=known), wanted, hint))
            if clock.real_seconds > 3 * LIMIT:
                raise Inconclusive(f"this machine is too busy ({load_in_words()}): {wanted}, within {LIMIT:g} s")
            time.sleep(LOOK)

    def _begin(self) -> OnASocket:
        stream = OnASocket(self.server, self._clock)
        self._until(
            lambda known: stream.prompt in known.asking,
            f"on uvicorn the decoder was not asked for the tokens of a POST {PATH} within {LIMIT:g} s",
            "it is asked at once",
            ALONE,
        )
        return stream

    def _let(self, stream: OnASocket, number: int) -> None:
        """Let a token out; its reader has it before the next is let out."""
        self._until(
            lambda known: stream.prompt in known.asking,
            f"on uvicorn the decoder gave {number} tokens, and is not asked for the next",
            "the app asks for the next token",
            ALONE,
        )
        token, clock = secrets.token_hex(3), FairClock()
        self._known({"prompt": stream.prompt, "token": token})
        got = stream.token(number)
        if got is None and clock.busy:
            raise Inconclusive(f"this machine is too busy ({load_in_words()}): no token within {LIMIT:g} s")
        assert got == token, Failure(
            f"on uvicorn the decoder gave token {number + 1}, its reader has {'none' if got is None else repr(got)}",
            f"{token!r}, over the socket, before the next token",
            ALONE,
        )

    def tokens_leave_at_once(self) -> None:
        """Two streams side by side, token by token."""
        streams = [self._begin(), self._begin()]
        for number in range(3):
            for stream in streams:
                self._let(stream, number)
        for stream in streams:
            stream.close()

    def a_socket_is_closed(self) -> None:
        """In the prefill, and after a token: the slot is free, and no further token is let out."""
        for tokens in (0, 1):
            stream = self._begin()
            for number in range(tokens):
                self._let(stream, number)
            stream.close()
            what = "in the prefill" if not tokens else "after one token"
            self._until(
                lambda known: not known.held,
                f"on uvicorn a reader closed its socket {what}, and its slot was still held after {LIMIT:g} s",
                "the slot is free at once, without another token",
                LISTEN,
            )


def on_uvicorn(serve: Serve, check: Callable[[OnUvicorn], Any]) -> None:
    """Start the server and judge it."""
    check(OnUvicorn(serve))
