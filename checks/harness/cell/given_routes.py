"""Routes of the lab's own that an app of the learner's serves beside theirs. They judge nothing.

Each maker gets the learner's lab.timing, the models that hold its requests, and its plan.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

LOOKALIKES = ("/healthy", "/v1/health", "/metrics/daily")
"""Paths of users that begin or end like those in NOT_COUNTED."""


COOKIES = ("one", "other")
"""Names of cookies that an answer sets, each with a header of its own."""


class Given(NamedTuple):
    """Which of these routes an app serves, the models that hold their requests, and their plan in plain data."""

    name: str
    gates: Sequence[Any] = ()
    plan: Mapping[str, Any] = MappingProxyType({})


class Crash(Exception):
    """What a handler raises."""


def items(*_: Any) -> Any:
    """A route with two parameters behind two prefixes, and routes whose paths look like those of NOT_COUNTED."""
    from fastapi import APIRouter, HTTPException

    inner, outer, routes = APIRouter(prefix="/users"), APIRouter(prefix="/v1"), APIRouter()

    @inner.get("/{user_id}/items/{item_id}")
    async def item(user_id: int, item_id: int) -> str:
        if item_id == 0:
            raise HTTPException(404, "the route is there, the item is not")
        return f"{user_id} {item_id}"

    async def lookalike() -> str:
        return "for users"

    outer.include_router(inner)
    routes.include_router(outer)
    for path in LOOKALIKES:
        routes.add_api_route(path, lookalike)
    return routes


def held(timing: ModuleType, gates: Sequence[Any], plan: Mapping[str, Any]) -> Any:
    """`GET /held` is held at the gate; with `stage` in the plan, in a stage of that name."""
    from fastapi import APIRouter

    routes = APIRouter()

    @routes.get("/held")
    async def hold() -> float:
        if "stage" not in plan:
            return float(await gates[0].predict([1.0]))
        with timing.stage(plan["stage"]):
            return float(await gates[0].predict([1.0]))

    return routes


def stream(_: ModuleType, gates: Sequence[Any], __: Mapping[str, Any]) -> Any:
    """`GET /stream` sends "first", is held at a gate, and sends "last"; a background task is held at another."""
    from fastapi import APIRouter
    from fastapi.responses import StreamingResponse
    from starlette.background import BackgroundTask

    routes = APIRouter()
    gate, after = gates

    @routes.get("/stream")
    async def streamed() -> StreamingResponse:
        async def tokens() -> AsyncIterator[bytes]:
            yield b"first"
            await gate.predict([1.0])
            yield b"last"

        return StreamingResponse(tokens(), background=BackgroundTask(after.predict, [1.0]))

    return routes


def sender(_: ModuleType, gates: Sequence[Any], __: Mapping[str, Any]) -> Any:
    """`GET /sends` is held at the gate between the first message of its answer and the second."""
    from fastapi import APIRouter, Response

    class Answer(Response):
        async def __call__(self, _: Any, __: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await gates[0].predict([1.0])
            await send({"type": "http.response.body", "body": b"all"})

    routes = APIRouter()

    @routes.get("/sends")
    async def sends() -> Response:
        return Answer()

    return routes


def errors(_: ModuleType, gates: Sequence[Any], __: Mapping[str, Any]) -> Any:
    """Routes that answer in every class, crash before, within and after their answer, or are held at a gate."""
    from fastapi import APIRouter, Response
    from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
    from starlette.background import BackgroundTask

    routes = APIRouter()
    gate, streams = gates

    @routes.get("/works")
    async def work() -> str:
        return "done"

    @routes.get("/typed/{number}")
    async def type_(number: int) -> int:
        return number

    @routes.get("/moved")
    async def move() -> Response:
        return RedirectResponse("/works")

    @routes.get("/busy")
    async def refuse() -> Response:
        return Response(status_code=503)

    @routes.get("/crash")
    async def crash() -> None:
        raise Crash

    @routes.get("/crash/within")
    async def crash_within() -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"the answer has begun"
            raise Crash

        return StreamingResponse(pieces())

    @routes.get("/crash/after")
    async def crash_after() -> Response:
        async def task() -> None:
            raise Crash

        return PlainTextResponse("answered", background=BackgroundTask(task))

    @routes.get("/held")
    async def hold() -> float:
        return float(await gate.predict([1.0]))

    @routes.get("/stream/{status}")
    async def streaming(status: int) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"the answer has begun"
            await streams.predict([1.0])
            yield b", and ends"

        return StreamingResponse(pieces(), status_code=status)

    return routes


def staged(timing: ModuleType, gates: Sequence[Any], plan: Mapping[str, Any]) -> Any:
    """`/async` in coroutines and `/threaded` on threads, `/refused` with a stage that raises.

    The stages of a request are visits to the gates, one for each stage in the plan's `names`; the first is visited
    twice. What a gate is given is the request's number, which is the answer as well.
    """
    from fastapi import APIRouter

    routes, numbers = APIRouter(), itertools.count()
    names = list(plan["names"])
    visits = [*zip(names, gates, strict=True), (names[0], gates[0])]

    @routes.get("/async")
    async def in_coroutines() -> int:
        number = next(numbers)
        for name, gate in visits:
            with timing.stage(name):
                await gate.predict([number])
        return number

    @routes.get("/threaded")
    def on_threads() -> int:
        number = next(numbers)
        for name, gate in visits:
            with timing.stage(name):
                gate.predict_blocking([number])
        return number

    @routes.get("/refused")
    async def refused() -> str:
        with suppress(LookupError), timing.stage("refusal"):
            raise LookupError
        return "refused"

    return routes


def context(*_: Any) -> Any:
    """A route that answers, one that crashes, one that is cancelled, and one that sets cookies."""
    from fastapi import APIRouter
    from fastapi.responses import PlainTextResponse

    routes = APIRouter()

    @routes.get("/context/cookies")
    async def cookies() -> Any:
        answer = PlainTextResponse("done")
        for name in COOKIES:
            answer.set_cookie(name, "1")
        return answer

    @routes.get("/context/works")
    async def work() -> str:
        return "done"

    @routes.get("/context/crash")
    async def crash() -> None:
        raise Crash

    @routes.get("/context/cancelled")
    async def cancelled() -> None:
        raise asyncio.CancelledError

    return routes


ROUTES: dict[str, Callable[[ModuleType, Sequence[Any], Mapping[str, Any]], Any]] = {
    "items": items,
    "held": held,
    "stream": stream,
    "sender": sender,
    "errors": errors,
    "staged": staged,
    "context": context,
}
"""By the name that a checkpoint gives."""
