"""The learner's app in a real process, with routes of the harness's own whose handlers write log lines."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys

import structlog
from fastapi import FastAPI

SECONDS = 0.05
"""How long a handler takes, at least."""
SPOKEN = "spoken"
"""The event of a handler's own line."""


def create_app() -> FastAPI:
    """Their app, with `GET /talk/{number}` (async), `GET /talk/threaded/{number}` and `GET /talk/crash`."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for good: what is judged is stdout; uvicorn holds on to the old one
    app: FastAPI = importlib.import_module("lab.service").create_app()
    log = structlog.get_logger()

    @app.get("/talk/crash")
    async def crash() -> None:
        raise RuntimeError("a handler that crashes")

    @app.get("/talk/threaded/{number}")
    def talk_threaded(number: int) -> dict[str, int]:
        log.info(SPOKEN, number=number)
        return {"number": number}

    @app.get("/talk/{number}")
    async def talk(number: int) -> dict[str, int]:
        await asyncio.sleep(SECONDS)
        log.info(SPOKEN, number=number)
        return {"number": number}

    return app
