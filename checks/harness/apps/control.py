"""The lab's own service, known to be right: what a machine gives it tells what may be asked of a learner's."""

import asyncio
import os

from fastapi import FastAPI


def create_app() -> FastAPI:
    """A service that awaits `LAB_INFERENCE_SECONDS` at `POST /predict`, as the solution of exercise 1 does."""
    app = FastAPI(title="control")
    seconds = float(os.environ["LAB_INFERENCE_SECONDS"])

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "pid": os.getpid()}

    @app.post("/predict")
    async def predict(body: dict[str, list[float]]) -> dict[str, float]:
        await asyncio.sleep(seconds)
        return {"prediction": sum(body["features"]) / len(body["features"])}

    return app
