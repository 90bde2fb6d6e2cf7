"""A model of known capacity in a real server: so many slots, each of which takes so long. Two services around it."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from fastapi import FastAPI, Response

FORGET = -1e9
"""The one feature of a request that makes the model drop whoever waits for a slot: between two loads."""


class Slots:
    """A model that serves `slots` requests at a time, each in `seconds`; the others wait in order, without limit."""

    def __init__(self, slots: int, seconds: float) -> None:
        self.slots, self.seconds = slots, seconds
        self.free = asyncio.Semaphore(slots)
        self.forgotten = 0

    async def predict(self, features: Sequence[float]) -> float:
        """The mean of the features, when a slot has been free."""
        if list(features) == [FORGET]:
            self.forgotten += 1
            return 0.0
        arrived = self.forgotten
        async with self.free:
            if arrived == self.forgotten:
                await asyncio.sleep(self.seconds)
        return fmean(features)


def _slots() -> Slots:
    return Slots(int(os.environ["LAB_SLOTS"]), float(os.environ["LAB_SLOT_SECONDS"]))


def create_app() -> FastAPI:
    """The learner's app, whose model is `LAB_SLOTS` slots of `LAB_SLOT_SECONDS` each."""
    service = importlib.import_module("lab.service")
    app: FastAPI = service.create_app()
    model = _slots()

    async def give() -> Any:
        return model

    app.dependency_overrides[service.get_model] = give
    return app


def create_control() -> FastAPI:
    """The lab's own service around the same model, known to be right: it takes on as many as it can serve soon."""
    app, model, admitted = FastAPI(title="control"), _slots(), 0

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "pid": os.getpid()}

    @app.post("/predict")
    async def predict(body: dict[str, list[float]]) -> Any:
        nonlocal admitted
        if admitted >= 2 * model.slots:  # one in each slot, and one behind it
            return Response(status_code=503, headers={"retry-after": "1"})
        admitted += 1
        try:
            return {"prediction": await model.predict(body["features"])}
        finally:
            admitted -= 1

    return app
