"""The learner's app in a real process, with routes of the lab's own whose handlers write log lines."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator

import structlog
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.background import BackgroundTask

SECONDS = 0.05
"""How long a handler takes, at least."""
SPOKEN = "spoken"
"""The event of a handler's own line."""


async def _crash() -> None:
    raise RuntimeError("a crash of the checkpoint's own")


def create_app() -> FastAPI:
    """The learner's app with routes below `/talk`, each with a handler of another kind.

    `/talk/{number}` awaits and `/talk/threaded/{number}` runs on a thread; both write a line `SPOKEN`. `/talk/crash`
    raises. `/talk/background` answers, and its background task raises. `/talk/stream/{ms}` sends a piece, waits so
    long, and sends the ms that it waited as its last piece.
    """
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for good: stdout is judged; uvicorn keeps the old stderr
    app: FastAPI = importlib.import_module("lab.service").create_app()
    log = structlog.get_logger()
    # The server keeps its last lines only: tracebacks of the two crashes would push others out.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.exc_info is None)

    @app.get("/talk/crash")
    async def crash() -> None:
        await _crash()

    @app.get("/talk/background")
    async def background() -> PlainTextResponse:
        return PlainTextResponse("answered", background=BackgroundTask(_crash))

    @app.get("/talk/stream/{ms}")
    async def stream(ms: int) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield " "
            started = time.perf_counter()
            await asyncio.sleep(ms / 1000)
            yield f"{(time.perf_counter() - started) * 1000:.3f}"

        return StreamingResponse(pieces(), media_type="text/plain")

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
