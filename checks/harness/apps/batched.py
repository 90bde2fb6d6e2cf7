"""A service of the lab's own that answers in batches: what a machine lets it reach may be asked of a learner's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

Waiting = asyncio.Queue[tuple[list[float], "asyncio.Future[float]"]]


def create_app() -> FastAPI:
    """`POST /predict/batched`, its model and batches as the learner's settings say (`LAB_MAX_BATCH`, ...)."""
    from fastapi import FastAPI

    most, base, item = (
        float(os.environ[f"LAB_{name}"]) for name in ("MAX_BATCH", "BATCH_BASE_SECONDS", "BATCH_ITEM_SECONDS")
    )
    waiting: Waiting = asyncio.Queue()

    async def serve() -> None:
        """Take what waits, as long as there is any: who waits for a busy model is company enough."""
        while True:
            batch = [await waiting.get()]
            while len(batch) < most and not waiting.empty():
                batch.append(waiting.get_nowait())
            await asyncio.sleep(base + item * len(batch))
            for features, answer in batch:
                if not answer.done():
                    answer.set_result(fmean(features))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving = asyncio.create_task(serve())
        yield
        serving.cancel()

    app = FastAPI(title="reference", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "pid": os.getpid()}

    @app.post("/predict/batched")
    async def predict(body: dict[str, list[float]]) -> dict[str, float]:
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        waiting.put_nowait((body["features"], answer))
        return {"prediction": await answer}

    return app
