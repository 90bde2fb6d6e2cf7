"""Makes the app that a checkpoint asks. Where `create_app` returns none, says in one way what came in its place."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from checks.harness.cell.decoder import HeldDecoder
from checks.harness.cell.decoder_probe import Port
from checks.harness.cell.inprocess import InProcess
from checks.harness.errors import LearnerError
from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

A_FUNCTION = "`def create_app(settings: Settings | None = None) -> FastAPI:`"


def make_app(service: ModuleType, lines: SourceLines, *settings: Any) -> FastAPI:
    """The app that `create_app` of `lab.service` makes, with these settings, or with those of the environment.

    Raises `LearnerError` where it is no function, wants settings that a server does not give, or returns no app.
    """
    from fastapi import FastAPI

    create, path = service.create_app, Path(service.__file__ or "")
    if not inspect.isroutine(create):
        raise LearnerError(
            f"`create_app` is {_kind(create)}, not a function",
            lines.where_written(path, "create_app ="),
            wanted="a function that makes a new app for each call",
            hint=f"Use the name only for the function: {A_FUNCTION}.",
        )
    try:
        app = create(*settings)
    except TypeError as error:
        called = error.__traceback__ and error.__traceback__.tb_next is None  # it did not begin
        if settings or not called or "missing" not in str(error):
            raise
        raise LearnerError(
            f"a server calls create_app() without settings: {error}",
            lines.where_defined(create),
            wanted="without settings create_app reads them from the environment",
            hint="`settings: Settings | None = None`, and in the function `settings = settings or Settings()`.",
        ) from error
    if isinstance(app, FastAPI):
        return app
    if inspect.iscoroutine(app):
        app.close()
    raise LearnerError(
        f"create_app() returned {_kind(app)}", lines.where_defined(create), wanted="a FastAPI app", hint=_hint(app)
    )


def app_with(
    service: ModuleType,
    settings: Any,
    lines: SourceLines,
    *,
    model: Any = None,
    batch_model: Any = None,
    decoder: Any = None,
    routes: APIRouter | None = None,
) -> InProcess:
    """The learner's app, not started yet, with these models in the places of its own, and with more routes."""
    app = make_app(service, lines, settings)
    if routes is not None:
        app.include_router(routes)
    if model is not None:

        async def give() -> Any:  # a plain function would take a thread of the pool that is measured
            return model

        app.dependency_overrides[service.get_model] = give
    if batch_model is not None:
        app.state.batch_model = batch_model
    if decoder is not None:
        app.state.decoder = decoder
    return InProcess(app, lines)


def held_decoder(slots: int, port: Port) -> HeldDecoder:
    """A decoder with the given one's slots, whose tokens wait until they are let out."""
    return HeldDecoder(importlib.import_module("lab.decoder").SimulatedDecoder(slots, 0.0, 0.0), port)


def app_around(middleware: Any, metrics: Any, routes: APIRouter, lines: SourceLines) -> InProcess:
    """A middleware of the learner's around an app that has these routes alone, not started yet."""
    from fastapi import FastAPI

    below = FastAPI()
    below.include_router(routes)
    return InProcess(middleware(below, metrics=metrics), lines)


def enter_lifespan(service: ModuleType) -> None:
    """Raise the stub's own exception if the lifespan of `lab.service` is still to be written."""
    from fastapi import FastAPI

    async def enter() -> None:
        async with service.lifespan(FastAPI()):
            pass

    try:
        if hasattr(service, "lifespan"):
            asyncio.run(enter())
    except NotImplementedError:
        raise
    except Exception:  # a lifespan that needs more than an empty app is no stub
        return


def _kind(thing: object) -> str:
    """What it is, in words that stay the same from call to call."""
    if thing is None:
        return "None"
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _hint(returned: object) -> str:
    if returned is None:
        return "`return app` at its end."
    if inspect.iscoroutine(returned):
        return "A plain `def create_app(...)`: the server calls it without `await`."
    if inspect.isgenerator(returned):
        return "`return app` in the place of `yield`."
    if type(returned).__name__ == "APIRouter":
        return "`app = FastAPI(title=...)`, `app.include_router(router)`, and `return app`."
    if callable(returned):
        return "`app.add_middleware(...)` wraps the app and leaves it a FastAPI. Return the app itself."
    return "`return app`: return the FastAPI that create_app has made."
