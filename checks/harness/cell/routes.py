"""The routes of an app that a learner wrote."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    from fastapi import FastAPI

PATHS = (
    "/health",
    "/metrics",
    "/predict",
    "/predict/threaded",
    "/predict/blocking",
    "/predict/enriched",
    "/predict/batched",
)
"""What the lab asks for: a route at one of these paths is meant for it, and for no other."""


class Route(NamedTuple):
    """One route of an app: its methods, its whole path, and the function that handles it.

    `beside` are the functions of that function's module which are called as handlers of the lab are.
    """

    methods: frozenset[str]
    path: str
    handler: Any
    beside: Mapping[str, Any]

    def __str__(self) -> str:
        """As it is called: `POST /predict`."""
        return f"{'/'.join(sorted(self.methods - {'HEAD'}))} {self.path}"


def called(path: str) -> str:
    """What the handler of a path is called."""
    return path.strip("/").replace("/", "_")


def plain_dependency(app: FastAPI, path: str, lines: SourceLines) -> Any:
    """The learner's dependency of the route at that path which FastAPI calls on a thread of its pool, if there is one.

    It is a plain `def`, a class, or an object whose `__call__` is a plain `def`.
    """
    routes: Sequence[Any] = app.routes
    each = (getattr(route, "effective_route_contexts", lambda route=route: [route])() for route in routes)
    left = [one.dependant for some in each for one in some if getattr(one, "path", "") == path]
    while left:
        for one in left.pop().dependencies:
            left.append(one)
            called = one.call
            if called and not any(map(_awaits, (called, type(called).__call__))) and lines.where_defined(called):
                return called
    return None


def _awaits(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def routes_of(app: FastAPI, lines: SourceLines) -> Iterator[Route]:
    """The routes of an app that learners wrote, in their order."""
    routes: Sequence[Any] = app.routes
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)  # what FastAPI keeps of a router (0.165)
        for one in included() if included else [route]:
            handler, methods = getattr(one, "endpoint", None), getattr(one, "methods", None)
            if isinstance(handler, FunctionType) and methods and lines.where_defined(handler):
                beside = {name: handler.__globals__.get(name) for name in map(called, PATHS)}
                functions = {name: one for name, one in beside.items() if isinstance(one, FunctionType)}
                yield Route(frozenset(methods), one.path, handler, functions)
