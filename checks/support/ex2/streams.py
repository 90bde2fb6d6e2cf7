"""2.7: a stream that is held between its first and its last piece, and scopes that are no HTTP requests."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from checks.harness.assertions.server_timing import ROUNDING
from checks.harness.cell.given_routes import Given
from checks.harness.cell.inprocess import InProcess
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.fixtures import Service
from checks.harness.judge.handles import beside
from checks.harness.load.trace import MS
from checks.harness.workspace import LearnerModules
from checks.support.ex2.middleware import HELD, alone, on_base_http

PIECES_HINT = "Pass each message on as it comes: `await send(message)`, and do not collect messages."
END_HINT = 'The answer is over with the message "http.response.body" whose `more_body` is false or missing.'
BASE_HINT = (
    "`call_next` of a BaseHTTPMiddleware returns when the answer begins. Write a plain class with `__call__(scope, "
    "receive, send)` and a `send` of its own."
)
SEND_HINT = "Take the time in `send`, when the last body message passes: the app returns later than that."
SCOPE_HINT = (
    'Before anything else: `if scope["type"] != "http": return await self.app(scope, receive, send)`, in one line.'
)


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream, in seconds: how long it was held after its first piece, and how long its client waited for all."""

    held: float
    client: float


def streamed(app: InProcess, gate: Probe, after: Probe) -> Streamed:
    """One stream and its background task. Its pieces leave one by one; the hold is a multiple of the first's time."""
    call = app.drive("GET", "/stream")
    app.until(lambda: gate.inside and call.pieces)
    left = b"".join(body for _, body in call.pieces)
    assert left == b"first", Failure(
        f"{left.decode() or 'nothing'!r} has left the app while the handler works on its second piece",
        wanted="'first': each piece is sent on at once",
        hint=PIECES_HINT,
    )
    first_piece = call.pieces[0][0] - call.sent
    time.sleep(max(HELD, 5 * first_piece))  # this is the handler's work
    gate.open()
    call.answer()
    left = b"".join(body for _, body in call.pieces)
    assert left == b"firstlast", Failure(
        f"a stream of 'first' and 'last' left the app as {left!r}", wanted="both, in order", hint=PIECES_HINT
    )
    app.until(lambda: after.inside)
    time.sleep(HELD)  # this is work in the background: the caller has gone on
    after.open()
    app.until(lambda: after.inside == 0)
    inside = gate.calls[0]
    assert inside.left is not None
    assert call.finished is not None
    return Streamed(inside.left - inside.entered, call.finished - call.sent)


def is_timed_to_its_end(recorded: float, stream: Streamed, lab: LearnerModules, *, waiting_counts: bool) -> None:
    """What is recorded, in seconds, ends with the last byte, and not with the background task.

    `waiting_counts` is whether waiting is recorded at all: where it is not, 2.4 says so.
    """
    assert recorded >= stream.held - ROUNDING / MS or not waiting_counts, Failure(
        f"a stream whose last byte left {stream.held * MS:.0f} ms after its first was recorded as "
        f"{recorded * MS:.1f} ms",
        wanted="the time until its last byte",
        hint=BASE_HINT if on_base_http(lab, beside_it=False) else END_HINT,
    )
    assert recorded <= stream.client + ROUNDING / MS, Failure(
        f"a stream whose caller had all of it after {stream.client * MS:.1f} ms was recorded as {recorded * MS:.1f} ms",
        wanted="the time until its last byte, without the background task that ran after it",
        hint=SEND_HINT,
    )


def waits_for_the_server(lab: LearnerModules, service: Service) -> None:
    """While the server has not taken a message, the app does not get past sending it."""
    taken, went_on = Probe(), Probe()
    app, _ = alone(lab, service, Given("sender", [went_on]))
    call = app.drive("GET", "/sends", taken=taken)
    app.until(lambda: went_on.calls)  # in vain, where it waits
    early, sent = len(went_on.calls), len(taken.calls)
    taken.open()
    went_on.open()
    call.answer()
    assert (early, sent) == (0, 1), Failure(
        "the app went on before the server had taken the first message of its answer",
        wanted="the app waits for the server: otherwise a caller who reads slowly fills the memory",
        hint="In your own `send`: `await send(message)`, and no task and no queue in between.",
    )


def other_scopes_pass(lab: LearnerModules) -> None:
    """A lifespan and a WebSocket reach the app below with the very scope, receive and send that came."""
    middleware, word = lab.timing.TimingMiddleware, secrets.token_hex()
    for kind, parts in (("lifespan", {}), ("websocket", {"path": "/", "headers": []})):
        scope = {"type": kind, **parts}
        passed = beside(middleware).passed(middleware, scope, word)
        wanted = (scope, [{"type": "given", "word": word}], [{"type": "taken", "word": word[::-1]}], True)
        assert passed == wanted, Failure(
            f"a {kind} scope did not reach the app below as it came",
            wanted="a scope that is not HTTP passes unchanged",
            hint=SCOPE_HINT,
        )
