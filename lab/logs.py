"""Logs: one JSON line a request on stdout, and the request's id on every line that is written meanwhile."""

from collections.abc import Callable
from typing import Any


def configure_logging() -> None:
    """Have structlog write one JSON object a line to stdout, with everything bound by its contextvars in it.

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

    The id is bound with structlog's contextvars while the app below runs, so that every line carries it, and is echoed
    in the answer's `X-Request-ID`. It has to stand outside of the middleware that writes the request's line.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        """Stand before `app`."""
        raise NotImplementedError("2.9: RequestIdMiddleware")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Bind the id, and unbind it in the end: what this task does afterwards is another matter."""
        raise NotImplementedError("2.9: RequestIdMiddleware")
