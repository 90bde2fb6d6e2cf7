"""The template of the route that took a request: what `lab/routes.py` gives to the learner."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from checks.harness.cell.exchange import Exchange
from lab.routes import route_template


def service() -> FastAPI:
    """Routes of every kind: of the app, of nested routers with prefixes, mounted, and Starlette's own."""
    app, mounted = FastAPI(), FastAPI()
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")

    async def item(item_id: int) -> int:
        return item_id

    async def plain(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["name"])

    app.add_api_route("/items/{item_id}", item)
    inner.add_api_route("/{item_id}", item)
    mounted.add_api_route("/{item_id}", item)
    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")
    app.mount("/mounted", mounted)
    app.router.routes.append(Route("/plain/{name}", plain))
    return app


@pytest.mark.parametrize(
    ("asked", "status", "template"),
    [
        ("GET /items/3", 200, "/items/{item_id}"),
        ("GET /items/x", 422, "/items/{item_id}"),
        ("GET /v1/outer/inner/3", 200, "/v1/outer/inner/{item_id}"),
        ("GET /mounted/3", 200, "/mounted/{item_id}"),
        ("GET /plain/x", 200, "/plain/{name}"),
        ("GET /openapi.json", 200, "/openapi.json"),
        ("GET /nowhere", 404, "unmatched"),
        ("GET /mounted/no/where", 404, "unmatched"),
        ("GET /items/3/", 307, "unmatched"),
        ("POST /items/3", 405, "unmatched"),
        ("BREW /items/3", 405, "unmatched"),
    ],
)
async def test_the_template_of_every_kind_of_route(asked: str, status: int, template: str) -> None:
    """With all prefixes; what no route takes, by its path or its method, shares one name."""
    app, seen = service(), []

    async def outermost(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        seen.append(route_template(scope))

    method, _, path = asked.partition(" ")
    exchange = await Exchange(method, path).run(outermost)

    assert (exchange.status, seen) == (status, [template])


def test_what_nobody_has_routed_is_unmatched() -> None:
    """Asked too early, it does not fail."""
    assert route_template({"type": "http", "method": "GET", "path": "/items/3"}) == "unmatched"
