"""A request that no route takes: which one of the app's was meant for it, and what is wrong with that one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from checks.harness.errors import Failure
from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from checks.harness.cell.inprocess import InProcess

PATHS = ("/health", "/metrics", "/predict", "/predict/threaded", "/predict/blocking", "/predict/enriched")
"""What the lab asks for: a route at one of these paths is meant for it, and for no other."""
NEAR = 0.7
"""From how alike on two paths are taken for the same one, spelled differently."""
TOLD = 4
"""Routes that are named at most, where none of them is near."""
REFUSED = (404, 405, 307, 308)
"""Statuses that mean: no route for this path, none for this method, one for the path with or without its last slash."""


class Route(NamedTuple):
    """One route of an app: its methods, its whole path, and the function that handles it."""

    methods: frozenset[str]
    path: str
    handler: Any

    def __str__(self) -> str:
        """As it is called: `POST /predict`."""
        return f"{'/'.join(sorted(self.methods - {'HEAD'}))} {self.path}"


class Unrouted(NamedTuple):
    """Why no route took a request: in words, with the line to change and what mends it."""

    said: str
    where: str | None
    hint: str


def routed(app: InProcess, answer: httpx.Response) -> None:
    """Fail if no route of the app takes the request that was answered; a handler's own 404 is none of that."""
    request = answer.request
    if why := unrouted(app, answer):
        raise AssertionError(
            Failure(
                f"{request.method} {request.url.path} gave {answer.status_code}: {why.said}",
                wanted="200",
                hint=why.hint,
                where=why.where,
            )
        )


def unrouted(app: InProcess, answer: httpx.Response) -> Unrouted | None:
    """Why no route took the request that was answered, if none did."""
    if answer.status_code not in REFUSED or (answer.status_code != 405 and app.endpoint is not None):
        return None
    method, path = answer.request.method, answer.request.url.path
    decorator = f'`@router.{method.lower()}("{path}")`'
    routes = [*_routes(app.app, app.lines)]
    if not routes:
        return Unrouted(
            "the app has no routes of yours", None, f"`app.include_router(router)` in `create_app`; one is {decorator}."
        )
    route = _meant(path, routes)
    if route is None:
        return _not_there(path, decorator, routes, app.lines)
    where = app.lines.where_decorated(route.handler, path) or app.lines.where_decorated(route.handler, "@")
    where, hint = where or app.lines.where_defined(route.handler), f"{decorator}: the same method, the same path."
    if route.path != path and route.path.endswith(path):
        where = app.lines.where_written(Path(route.handler.__code__.co_filename), "prefix=") or where
        hint = f"The routes are asked for without a prefix, as {path}: leave out `prefix=`."
    return Unrouted(f"the app has {route} in its place", where, hint)


def _routes(app: FastAPI, lines: SourceLines) -> Iterator[Route]:
    """The routes of an app that learners wrote, in their order."""
    routes: Sequence[Any] = app.routes
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)  # what FastAPI keeps of a router (0.165)
        for one in included() if included else [route]:
            handler, methods = getattr(one, "endpoint", None), getattr(one, "methods", None)
            if isinstance(handler, FunctionType) and methods and lines.where_defined(handler):
                yield Route(frozenset(methods), one.path, handler)


def _meant(path: str, routes: list[Route]) -> Route | None:
    """The route that was meant for this path: at it, or near it, or with a handler of that name."""
    taken: set[tuple[str, frozenset[str]]] = set()
    free: list[Route] = []
    for route in routes:
        if route.path == path:
            return route
        if route.path in PATHS and (route.path, route.methods) not in taken:
            taken.add((route.path, route.methods))
        else:
            free.append(route)
    likeness = [max(_alike(path, route.path), _alike(_name(path), route.handler.__name__)) for route in free]
    nearest = max(likeness, default=0.0)
    return free[likeness.index(nearest)] if nearest >= NEAR else None


def _not_there(path: str, decorator: str, routes: list[Route], lines: SourceLines) -> Unrouted:
    """No route is like it: its handler may stand in the file all the same, with nothing above it."""
    shown = ", ".join(map(str, routes[:TOLD])) + (", ..." if len(routes) > TOLD else "")
    handlers = (route.handler.__globals__.get(_name(path)) for route in routes)
    handler = next((one for one in handlers if isinstance(one, FunctionType)), None)
    where = handler and (lines.where_decorated(handler, path) or lines.where_defined(handler))
    if handler and lines.where_decorated(handler, path):
        hint = "Its router is not included: `app.include_router(...)` in `create_app` takes the router of this line."
    else:
        hint = f"{decorator} above its handler, on the router that `create_app` includes."
    return Unrouted(f"the app has no such route. It has {shown}", where, hint)


def _name(path: str) -> str:
    """What the handler of a path is called."""
    return path.strip("/").replace("/", "_")


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
