"""A service of the lab's own that is quick to start: it waits blocking, waits awaited, or computes, as it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from checks.harness.cell.exchange import App

BURN_SECONDS = 0.01
"""CPU time of a request to `/burn`."""


def create_app() -> App:
    """Takes `LAB_INFERENCE_SECONDS`, awaited at `/predict`, blocking at `/predict/blocking`; `/burn` computes."""
    seconds = float(os.environ["LAB_INFERENCE_SECONDS"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        match scope["path"]:
            case "/predict":
                await asyncio.sleep(seconds)
            case "/predict/blocking":
                time.sleep(seconds)  # noqa: ASYNC251 - the mistake is what is measured
            case "/burn":
                end = time.thread_time() + BURN_SECONDS
                while time.thread_time() < end:
                    pass
        body = json.dumps({"status": "ok", "pid": os.getpid()}).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    return app
