"""A request that no route takes: which one of the app's was meant for it, and what is wrong with that one."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from checks.harness.cell.routes import PATHS, Route, called
from checks.harness.errors import Failure
from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    import httpx

    from checks.harness.cell.inprocess import InProcess

NEAR = 0.7
"""From how alike on two paths are taken for the same one, spelled differently."""
TOLD = 4
"""Routes that are named at most, where none of them is near."""
REFUSED = (404, 405, 307, 308)
"""Statuses that mean: no route for this path, none for this method, one for the path with or without its last slash."""


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
    routes = app.routes
    if not routes:
        return Unrouted(
            "the app has no routes of yours", None, f"`app.include_router(router)` in `create_app`; one is {decorator}."
        )
    route = _meant(path, routes)
    if route is None:
        return _not_there(path, decorator, routes, app.lines)
    where = app.lines.where_decorated(route.handler, path) or app.lines.where_decorated(route.handler, "@")
    where = where or app.lines.where_defined(route.handler)
    hint = f"Write {decorator}: the method and the path must be exactly these."
    if route.path != path and route.path.endswith(path):
        where = app.lines.where_written(Path(route.handler.__code__.co_filename), "prefix=") or where
        hint = f"The checks request the routes without a prefix, as {path}: leave out `prefix=`."
    return Unrouted(f"the app has {route} in its place", where, hint)


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
    likeness = [max(_alike(path, route.path), _alike(called(path), route.handler.__name__)) for route in free]
    nearest = max(likeness, default=0.0)
    return free[likeness.index(nearest)] if nearest >= NEAR else None


def _not_there(path: str, decorator: str, routes: list[Route], lines: SourceLines) -> Unrouted:
    """No route is like it: its handler may stand in the file all the same, with nothing above it."""
    shown = ", ".join(map(str, routes[:TOLD])) + (", ..." if len(routes) > TOLD else "")
    handler = next((route.beside[called(path)] for route in routes if called(path) in route.beside), None)
    where = handler and (lines.where_decorated(handler, path) or lines.where_defined(handler))
    if handler and lines.where_decorated(handler, path):
        hint = "Its router is not included: `app.include_router(...)` in `create_app` takes the router of this line."
    else:
        hint = f"{decorator} above its handler, on the router that `create_app` includes."
    return Unrouted(f"the app has no such route. It has {shown}", where, hint)


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
