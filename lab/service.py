"""The inference service: one prediction, asked for in three ways."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic import BaseModel

from lab.model import SimulatedModel
from lab.settings import Settings

router = APIRouter()


class PredictRequest(BaseModel):
    """What a caller sends: `{"features": [1.0, 2.0, 6.0]}`, at least one, each a finite JSON number."""

    features: list[float]  # TODO(1.2): this lets an empty list, "2", true and NaN through


class EnrichedRequest(BaseModel):
    """What a caller sends for a user of the feature store: `{"user_id": 7}`, a JSON integer."""

    user_id: int  # TODO(4.4): this lets "7" and true through


class GenerateRequest(BaseModel):
    """What a caller sends to get tokens: `{"prompt": "Hello", "max_tokens": 16}`.

    At least one character; a JSON integer from 1 to `MAX_TOKENS`.
    """

    prompt: str  # TODO(7.3): this lets an empty prompt through,
    max_tokens: int  # and here "16", true, 0 and a million


class PredictResponse(BaseModel):
    """What a caller gets: `{"prediction": 3.0}`."""

    prediction: float


async def get_model(request: Request) -> SimulatedModel:
    """The model of the app that answers this request: `app.state.model`.

    Every prediction route asks for its model through this dependency, so that a test can put another in its place
    (`app.dependency_overrides[get_model]`); the checkpoints do.
    """
    raise NotImplementedError("1.7: get_model")


Model = Annotated[SimulatedModel, Depends(get_model)]


@router.get("/health")
async def health() -> dict[str, str | int]:
    """The health check: `{"status": "ok", "pid": 4711}`, with the id of the process that answers."""
    raise NotImplementedError("1.1: GET /health")


@router.get("/metrics")
async def metrics(request: Request) -> dict[str, Any]:
    """What the service has measured of itself: `app.state.metrics.report()`.

    Exercise 6 adds the batcher's own report to it, as `"batches"`, and exercise 7 that of the streams, as `"streams"`.
    """
    raise NotImplementedError("2.4: GET /metrics")


# TODO(2.4): in each of the three prediction routes, `with stage("model"):` around the call of the model


@router.post("/predict")
async def predict(body: PredictRequest, model: Model) -> PredictResponse:
    """One prediction, awaited: while the model waits, the event loop serves other requests."""
    raise NotImplementedError("1.2: POST /predict")


@router.post("/predict/threaded")
def predict_threaded(body: PredictRequest, model: Model) -> PredictResponse:
    """One prediction with the blocking call, in a plain `def`: FastAPI runs it on a thread of its pool."""
    raise NotImplementedError("1.5: POST /predict/threaded")


@router.post("/predict/blocking")
async def predict_blocking(body: PredictRequest, model: Model) -> PredictResponse:
    """One prediction with the blocking call in an `async def`: the mistake, kept here to be measured."""
    raise NotImplementedError("1.6: POST /predict/blocking")


@router.post("/predict/enriched")
async def predict_enriched(body: EnrichedRequest, request: Request, model: Model) -> PredictResponse:
    """One prediction, awaited, of the features that the feature store (`app.state.feature_store`) holds of a user."""
    raise NotImplementedError("4.4: POST /predict/enriched")


@router.post("/predict/batched")
async def predict_batched(body: PredictRequest, request: Request) -> PredictResponse:
    """One prediction of the batch model: the features wait at `app.state.batcher`, and share a call with others.

    Body and answer are those of `/predict`. The exception of an item without an answer is not caught: a 500.
    """
    raise NotImplementedError("6.7: POST /predict/batched")


@router.post("/generate")
async def generate(body: GenerateRequest, request: Request) -> Response:
    """The tokens of an answer, each sent as an event of its own as soon as the decoder gives it.

    Events without a name are tokens, and nothing else: `data: {"token": "Hel"}`. The last event says how it ended:
    `event: done` with `data: {"tokens": 12}`, or `event: error` with `data: {"detail": "..."}` where the decoder has
    failed. The content type is `text/event-stream`, with `Cache-Control: no-cache` and no `Content-Length`.

    A slot of `app.state.decoder` first, then the 200; nothing is sent before. A request that finds no free slot and
    `settings.decoder_queue` others waiting gets a 503, and so does one that has waited for `settings.queue_seconds`.
    The 503 has `Retry-After`: whole seconds, at least 1. The slot is held for decoding, not for reading: until the last
    token is decoded, or the decoder has failed, or the reader has left. It is given back once. Work that has begun is
    never cut off.
    """
    raise NotImplementedError("7.3: POST /generate")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Exercise 4: what a worker does before its first and after its last request, `FastAPI(..., lifespan=lifespan)`.

    The settings are at `app.state.settings`, where create_app puts them. `def` endpoints get `thread_pool_size`
    threads: the limiter of `anyio.to_thread` belongs to the event loop, which runs only now. The feature store is open
    at `app.state.feature_store`, from here to the end.

    Exercise 6: a `Batcher` around the `predict_batch` of the model that is at `app.state.batch_model` now goes to
    `app.state.batcher`; it is closed at the end. The call blocks, so it runs on a thread of its own: not on the event
    loop's, and not on one of the pool's, which may all be taken.
    """
    raise NotImplementedError("4.3: lifespan")
    yield  # here the service runs; what comes behind it runs at its end


def create_app(settings: Settings | None = None) -> FastAPI:
    """A new service with a title of its own, all routes above, and one model that waits `settings.inference_seconds`.

    Called without settings it reads them from the environment (`Settings()`). The model goes to `app.state.model`; in
    exercise 6 a `BatchModel` of the settings goes to `app.state.batch_model`, in exercise 7 a `SimulatedDecoder` to
    `app.state.decoder`.
    `lab.errors.invalid_request` answers every `RequestValidationError`.
    """
    raise NotImplementedError("1.1: create_app")
    # TODO(2.4): `app.state.metrics = Metrics(settings.latency_window)`, and a TimingMiddleware that collects into it
    # TODO(2.9): configure_logging(), log_request for the TimingMiddleware, and the RequestIdMiddleware around it
    # TODO(4.3): `app.state.settings = settings`, and the app is made with `FastAPI(..., lifespan=lifespan)`
    # TODO(4.5): AdmissionControl with the settings' max_in_flight, max_queue and queue_seconds, inside of the timing
    # TODO(6.7): `app.state.batch_model`; the batcher in the lifespan, its report in GET /metrics
    # TODO(7.3): `app.state.decoder`; what the streams report in GET /metrics
