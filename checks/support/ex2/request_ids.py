"""2.9: what of the ids and the lines of requests is seen in this process."""

from __future__ import annotations

import secrets

from checks.harness.cell.given_routes import Given
from checks.harness.cell.inprocess import InProcess
from checks.harness.errors import Failure
from checks.harness.fixtures import Service
from checks.harness.judge.handles import beside
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.log_lines import ECHO_HINT, FRESH_HINT, Places
from checks.support.ex2.middleware import alone, named

FRESH = 100
"""Requests without an id, all of which get different ones."""
RESET_HINT = (
    "`tokens = structlog.contextvars.bind_contextvars(request_id=...)`, then in a `finally` "
    "`structlog.contextvars.reset_contextvars(**tokens)`: it restores that one key, also after a crash."
)
ENDINGS = {
    "an answer": "/context/works",
    "a crash": "/context/crash",
    "a cancelled request": "/context/cancelled",
}


def ids_differ(app: InProcess, places: Places) -> None:
    """So many requests without an id get as many different ones."""
    calls = [app.get("/nowhere") for _ in range(FRESH)]
    ids = [call.answer().headers.get("x-request-id") for call in calls]
    assert len({*ids}) == FRESH, Failure(
        f"{FRESH} requests without an id got {len({*ids})} different ones, such as {ids[0]}",
        wanted="a fresh one for each, which no other request has",
        hint=f"{FRESH_HINT} Ids with few digits soon repeat.",
        where=places.ids,
    )


def headers_are_kept(app: InProcess, lab: LearnerModules, service: Service, places: Places) -> None:
    """An answer keeps a header that stands there twice, such as Set-Cookie. The TimingMiddleware's part, 2.4 judges."""
    alone_app, _ = alone(lab, service, Given("context"))
    before, after = (one.get("/context/cookies").answer().headers.get_list("set-cookie") for one in (alone_app, app))
    assert len(after) >= len(before), Failure(
        f"an answer with {len(before)} Set-Cookie headers came out of the service with {len(after)}",
        wanted="all of the app's own headers, and X-Request-ID",
        hint=f"A header name may occur twice, and a dictionary keeps only one of the two. {ECHO_HINT}",
        where=places.ids,
    )


def no_line_of_a_cancelled_request(lab: LearnerModules, workspace: Workspace, places: Places) -> None:
    """What counts nowhere is not logged either: a request that was cancelled has no status."""
    lines = beside(lab.timing.TimingMiddleware).lines_of_a_cancelled_request(lab.timing.TimingMiddleware)
    assert not lines, Failure(
        f"a cancelled request was logged with {len(lines)} line{'s' * (len(lines) != 1)}",
        wanted="none: it got no status, and is not counted either",
        hint="Log a request where you record it. `except Exception` does not run for a CancelledError, but "
        "`finally` does.",
        where=named(lines[0], workspace) or places.timing,
    )


def context_is_left_as_it_was(app: InProcess, places: Places) -> None:
    """After an answer, a crash and a cancelled request, the context holds what was bound before, and nothing else."""
    caller = secrets.token_hex(4)
    for after, bound in zip(ENDINGS, app.contexts([*ENDINGS.values()], caller), strict=True):
        assert "request_id" not in bound, Failure(
            f"after {after} the request_id {bound.get('request_id')!r} is still bound to the context",
            wanted="the middleware unbinds what it has bound, however a request ends",
            hint=RESET_HINT,
            where=places.ids,
        )
        assert bound == {"caller": caller}, Failure(
            f"after {after} {bound or 'nothing'} is bound to the context, where `caller` was bound before the request",
            wanted="the middleware unbinds only its own key",
            hint=RESET_HINT,
            where=places.ids,
        )
