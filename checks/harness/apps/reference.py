"""Services of the lab's own that are known to be right: what a machine lets them reach may be asked of a learner's."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

from checks.harness.cell.exchange import App

if TYPE_CHECKING:
    from fastapi import FastAPI

BURN_SECONDS = 0.01
"""CPU time of a request to `/burn`."""


def create_app() -> FastAPI:
    """A FastAPI service that awaits `LAB_INFERENCE_SECONDS` at `POST /predict`, as exercise 1's solution does."""
    from fastapi import FastAPI  # late: the service below starts in a tenth of the time without it

    app = FastAPI(title="reference")
    seconds = _inference_seconds()

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        return _said()

    @app.post("/predict")
    async def predict(body: dict[str, list[float]]) -> dict[str, float]:
        await asyncio.sleep(seconds)
        return {"prediction": sum(body["features"]) / len(body["features"])}

    return app


def create_bare() -> App:
    """A service without a framework: `LAB_INFERENCE_SECONDS` are awaited at `/predict`, block at `/predict/blocking`.

    `/burn` computes. Every path answers any method with `{"status": "ok", "pid": ...}`.
    """
    seconds = _inference_seconds()

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
        body = json.dumps(_said()).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    return app


def _inference_seconds() -> float:
    return float(os.environ["LAB_INFERENCE_SECONDS"])


def _said() -> dict[str, str | int]:
    return {"status": "ok", "pid": os.getpid()}
