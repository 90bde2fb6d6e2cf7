"""Logs: one JSON line for each request on stdout, and the request's id on every line that is written meanwhile."""

import logging
import secrets
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()


def configure_logging() -> None:
    """Make structlog write one JSON object for each line to stdout, with everything that its contextvars hold.

    uvicorn's own access log is switched off (the logger `uvicorn.access`), so that a request is logged once.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(),  # a line is one write: those of several workers do not mix
    )
    logging.getLogger("uvicorn.access").disabled = True


def log_request(method: str, route: str, status: int, seconds: float) -> None:
    """Write a request's line: event `request`, method, route, status, duration_ms.

    `log_request("POST", "/predict", 200, 0.1023)` writes, in the middle of a request, one line with

        {"event": "request", "method": "POST", "route": "/predict", "status": 200, "duration_ms": 102.3,
         "request_id": "7f3a9c"}
    """
    log.info("request", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 3))


class RequestIdMiddleware:
    """Gives every request an id: its own `X-Request-ID`, or a fresh one where it brings none.

    The id is bound with structlog's contextvars while the app below runs, so that every line carries it. The answer
    has it as its `X-Request-ID`. This middleware stands outside of the one that writes the request's line.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Bind the id, and unbind it in the end, also after a crash. What others have bound stays bound."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = dict(scope["headers"]).get(b"x-request-id") or secrets.token_hex(16).encode()

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id)]}
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(request_id=request_id.decode("latin-1"))
        try:  # `bound_contextvars` says the same in a line, and takes three times as long
            await self.app(scope, receive, send_with_id)
        finally:
            structlog.contextvars.reset_contextvars(**tokens)
