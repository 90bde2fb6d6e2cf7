"""Logs: one JSON line for each request on stdout, and the request's id on every line that is written meanwhile."""

from collections.abc import Callable
from typing import Any


def configure_logging() -> None:
    """Make structlog write one JSON object for each line to stdout, with everything that its contextvars hold.

    uvicorn's own access log is switched off (the logger `uvicorn.access`), so that a request is logged once.
    """
    raise NotImplementedError("2.9: configure_logging")


def log_request(method: str, route: str, status: int, seconds: float) -> None:
    """Write a request's line: event `request`, method, route, status, duration_ms.

    `log_request("POST", "/predict", 200, 0.1023)` writes, in the middle of a request, one line with

        {"event": "request", "method": "POST", "route": "/predict", "status": 200, "duration_ms": 102.3,
         "request_id": "7f3a9c"}
    """
    raise NotImplementedError("2.9: log_request")


class RequestIdMiddleware:
    """Gives every request an id: its own `X-Request-ID`, or a fresh one where it brings none.

    The id is bound with structlog's contextvars while the app below runs, so that every line carries it. The answer
    has it as its `X-Request-ID`. This middleware stands outside of the one that writes the request's line.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        """Wrap `app`."""
        raise NotImplementedError("2.9: RequestIdMiddleware")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Bind the id, and unbind it in the end, also after a crash. What others have bound stays bound."""
        raise NotImplementedError("2.9: RequestIdMiddleware")
