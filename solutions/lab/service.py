"""The inference service: one prediction, asked for in three ways."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from lab.admission import AdmissionControl
from lab.batch_model import BatchModel
from lab.batching import Batcher
from lab.decoder import MAX_TOKENS, SimulatedDecoder
from lab.errors import invalid_request
from lab.feature_store import fetch_features, open_feature_store
from lab.logs import RequestIdMiddleware, configure_logging, log_request
from lab.model import SimulatedModel
from lab.settings import Settings
from lab.streaming import StreamMetrics, TokenStream
from lab.timing import Metrics, TimingMiddleware, stage

router = APIRouter()

Feature = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class PredictRequest(BaseModel):
    """What a caller sends: `{"features": [1.0, 2.0, 6.0]}`, at least one, each a finite JSON number."""

    features: Annotated[list[Feature], Field(min_length=1)]


class EnrichedRequest(BaseModel):
    """What a caller sends for a user of the feature store: `{"user_id": 7}`, a JSON integer."""

    user_id: Annotated[int, Field(strict=True)]


class GenerateRequest(BaseModel):
    """What a caller sends to get tokens: `{"prompt": "Hello", "max_tokens": 16}`.

    At least one character; a JSON integer from 1 to `MAX_TOKENS`.
    """

    prompt: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=MAX_TOKENS)]


class PredictResponse(BaseModel):
    """What a caller gets: `{"prediction": 3.0}`."""

    prediction: float


async def get_model(request: Request) -> SimulatedModel:
    """The model of the app that answers this request: `app.state.model`.

    Every prediction route asks for its model through this dependency, so that a test can put another in its place
    (`app.dependency_overrides[get_model]`); the checkpoints do.
    """
    model: SimulatedModel = request.app.state.model
    return model


Model = Annotated[SimulatedModel, Depends(get_model)]


@router.get("/health")
async def health() -> dict[str, str | int]:
    """The health check: `{"status": "ok", "pid": 4711}`, with the id of the process that answers."""
    return {"status": "ok", "pid": os.getpid()}


@router.get("/metrics")
async def metrics(request: Request) -> dict[str, Any]:
    """What the service has measured of itself: `app.state.metrics.report()`.

    Exercise 6 adds the batcher's own report to it, as `"batches"`, and exercise 7 that of the streams, as `"streams"`.
    """
    collected: Metrics = request.app.state.metrics
    batcher: Batcher = request.app.state.batcher
    streams: StreamMetrics = request.app.state.streams
    return collected.report() | {"batches": batcher.report(), "streams": streams.report()}


@router.post("/predict")
async def predict(body: PredictRequest, model: Model) -> PredictResponse:
    """One prediction, awaited: while the model waits, the event loop serves other requests."""
    with stage("model"):
        answer = await model.predict(body.features)
    return PredictResponse(prediction=answer)


@router.post("/predict/threaded")
def predict_threaded(body: PredictRequest, model: Model) -> PredictResponse:
    """One prediction with the blocking call, in a plain `def`: FastAPI runs it on a thread of its pool."""
    with stage("model"):
        answer = model.predict_blocking(body.features)
    return PredictResponse(prediction=answer)


@router.post("/predict/blocking")
async def predict_blocking(body: PredictRequest, model: Model) -> PredictResponse:
    """One prediction with the blocking call in an `async def`: the mistake, kept here to be measured."""
    with stage("model"):
        answer = model.predict_blocking(body.features)
    return PredictResponse(prediction=answer)


@router.post("/predict/enriched")
async def predict_enriched(body: EnrichedRequest, request: Request, model: Model) -> PredictResponse:
    """One prediction, awaited, of the features that the feature store (`app.state.feature_store`) holds of a user."""
    with stage("features"):
        features = await fetch_features(request.app.state.feature_store, body.user_id)
    with stage("model"):
        answer = await model.predict(features)
    return PredictResponse(prediction=answer)


@router.post("/predict/batched")
async def predict_batched(body: PredictRequest, request: Request) -> PredictResponse:
    """One prediction of the batch model: the features wait at `app.state.batcher`, and share a call with others.

    Body and answer are those of `/predict`. The exception of an item without an answer is not caught: a 500.
    """
    batcher: Batcher = request.app.state.batcher
    with stage("model"):
        answer = await batcher.submit(body.features)
    return PredictResponse(prediction=answer)


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
    settings: Settings = request.app.state.settings
    return TokenStream(
        request.app.state.decoder,
        body.prompt,
        body.max_tokens,
        queue=settings.decoder_queue,
        queue_seconds=settings.queue_seconds,
        metrics=request.app.state.streams,
    )


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
    settings: Settings = app.state.settings
    current_default_thread_limiter().total_tokens = settings.thread_pool_size
    async with open_feature_store(settings) as store:
        app.state.feature_store = store
        app.state.batcher = Batcher(_on_a_thread(app.state.batch_model), settings.max_batch, settings.batch_window)
        yield
        await app.state.batcher.close()


def _on_a_thread(model: BatchModel) -> Callable[[list[Any]], Awaitable[Sequence[Any]]]:
    """The model's blocking call, awaited: on a thread beside the pool's, all of which may be taken."""
    one_at_a_time = CapacityLimiter(1)
    return lambda batch: run_sync(model.predict_batch, batch, limiter=one_at_a_time)


def create_app(settings: Settings | None = None) -> FastAPI:
    """A new service with a title of its own, all routes above, and one model that waits `settings.inference_seconds`.

    Called without settings it reads them from the environment (`Settings()`). The model goes to `app.state.model`; in
    exercise 6 a `BatchModel` of the settings goes to `app.state.batch_model`, in exercise 7 a `SimulatedDecoder` to
    `app.state.decoder`.
    `lab.errors.invalid_request` answers every `RequestValidationError`.
    """
    settings = settings or Settings()
    app = FastAPI(title="Inference latency lab", lifespan=lifespan)
    app.state.settings = settings
    app.state.model = SimulatedModel(settings.inference_seconds)
    app.state.batch_model = BatchModel(settings.batch_base_seconds, settings.batch_item_seconds, settings.max_batch)
    app.state.decoder = SimulatedDecoder(settings.decoder_slots, settings.prefill_seconds, settings.token_seconds)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.include_router(router)
    configure_logging()
    app.state.metrics = Metrics(settings.latency_window)
    app.state.streams = StreamMetrics(settings.latency_window)
    app.add_middleware(
        AdmissionControl,
        max_in_flight=settings.max_in_flight,
        max_queue=settings.max_queue,
        queue_seconds=settings.queue_seconds,
    )
    app.add_middleware(TimingMiddleware, metrics=app.state.metrics, log=log_request)
    app.add_middleware(RequestIdMiddleware)  # the last one added is the outermost
    return app
