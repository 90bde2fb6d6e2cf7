"""A request that no route takes, and the route of the app that was meant for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from checks.harness.assertions.routed import routed, unrouted
from checks.harness.cell.inprocess import InProcess
from checks.harness.source_lines import SourceLines

APP = """
from fastapi import APIRouter, FastAPI, HTTPException

router, others = APIRouter(), APIRouter()


@router.get("/health")
async def health() -> str:
    return "ok"


@router.post(
    "/predictions",
)
async def predict() -> str:
    return "3.0"


async def predict_threaded() -> str:
    return "3.0"


@others.post("/predict/blocking")
def predict_blocking() -> str:
    return "3.0"


@router.get("/metrics")
async def metrics() -> str:
    raise HTTPException(404, "there are none")


app = FastAPI()
app.include_router(router)
"""
Serve = Callable[[str], InProcess]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves the app that this text of a learner's file makes."""
    running: list[InProcess] = []

    def start(text: str) -> InProcess:
        path = tmp_path / "lab" / "service.py"
        path.parent.mkdir()
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("routed_service", path)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        running.append(InProcess(module.app, SourceLines(tmp_path)))
        running[-1].start()
        return running[-1]

    yield start
    for app in running:
        app.stop()


def why_not(app: InProcess, method: str, path: str) -> tuple[str, str, str]:
    """What is said of this request, the text of the line that is named, and the hint."""
    answer: httpx.Response = (app.get(path) if method == "GET" else app.post(path)).answer()
    why = unrouted(app, answer)
    assert why is not None
    return why.said, (why.where or "").partition("\n")[2].strip(), why.hint


def test_the_route_that_was_meant_is_named(serve: Serve) -> None:
    """By a path that is like the one asked for, by its method, by its handler's name; with its line."""
    app = serve(APP)

    said, line, hint = why_not(app, "POST", "/predict")
    assert ("the app has POST /predictions in its place", '"/predictions",') == (said, line)
    assert '@router.post("/predict")' in hint
    assert why_not(app, "POST", "/health")[:2] == ("the app has GET /health in its place", '@router.get("/health")')
    said, line, hint = why_not(app, "POST", "/predict/threaded")
    assert said.startswith("the app has no such route. It has GET /health, ")
    assert (line, "above its handler" in hint) == ("async def predict_threaded() -> str:", True)
    said, line, hint = why_not(app, "POST", "/predict/blocking")
    assert (line, "not included" in hint or "takes the router" in hint) == ('@others.post("/predict/blocking")', True)


def test_a_prefix_is_named_by_its_own_line(serve: Serve) -> None:
    """The decorator below it is right."""
    app = serve(APP.replace("app.include_router(router)", 'app.include_router(router, prefix="/v1")'))

    said, line, hint = why_not(app, "GET", "/health")
    assert ("the app has GET /v1/health in its place", 'app.include_router(router, prefix="/v1")') == (said, line)
    assert "leave out `prefix=`" in hint


def test_an_app_without_routes_of_the_learners_has_no_router(serve: Serve) -> None:
    """FastAPI's own pages do not count."""
    app = serve(APP.replace("app.include_router(router)", ""))

    said, line, hint = why_not(app, "GET", "/health")
    assert ("the app has no routes of yours", "") == (said, line)
    assert "include_router" in hint


def test_a_404_of_a_handler_is_no_missing_route(serve: Serve) -> None:
    """Nor is an answer of 200."""
    app = serve(APP)

    routed(app, app.get("/metrics").answer())
    routed(app, app.get("/health").answer())
