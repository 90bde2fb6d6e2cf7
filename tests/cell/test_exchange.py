"""One request through an ASGI app, message by message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from checks.harness.cell.exchange import Exchange
from checks.harness.cell.probe import Probe
from checks.harness.errors import LearnerError


async def test_each_piece_of_a_body_is_there_when_it_has_left() -> None:
    """A stream is seen while it is still under way, and its end is known."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def pieces() -> Any:
            yield b"one"
            await gate.wait()
            yield b"two"

        await StreamingResponse(pieces(), 201, {"X-Name": "value"})(scope, receive, send)

    exchange = Exchange("GET", "/stream")
    moved = asyncio.Event()
    exchange.moved = lambda: moved.set() if exchange.chunks else None
    running = asyncio.create_task(exchange.run(app))
    await moved.wait()
    under_way = ([body for _, body in exchange.chunks], exchange.finished)
    gate.set()
    await running

    assert under_way == ([b"one"], None)
    assert [body for _, body in exchange.chunks] == [b"one", b"two"]
    assert (exchange.status, exchange.headers["x-name"]) == (201, "value")
    assert exchange.finished is not None
    assert exchange.finished >= exchange.chunks[1][0]


async def test_the_app_sees_method_path_and_headers() -> None:
    """What was asked for reaches the app, with a body that is empty, from a client that stays."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        seen.extend([request.method, request.url.path, request.headers["x-request-id"], await request.body()])
        seen.append(await request.is_disconnected())
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    exchange = await Exchange("PUT", "/items/3", [("X-Request-ID", "7f")]).run(app)

    assert seen == ["PUT", "/items/3", "7f", b"", False]
    assert (exchange.status, exchange.headers, exchange.chunks) == (204, {}, [])


async def test_what_the_app_raises_is_raised() -> None:
    """An exception is not hidden behind an answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("in the app")

    with pytest.raises(LookupError, match="in the app"):
        await Exchange("GET", "/").run(app)


async def test_a_header_of_str_is_no_header() -> None:
    """A server would close the connection without a word."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [("x-name", "value")]})

    with pytest.raises(LearnerError, match=r"sent as \('x-name', 'value'\)\nwanted: a pair of bytes"):
        await Exchange("GET", "/").run(app)


async def test_a_header_in_several_lines_is_a_list() -> None:
    """As HTTP has it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-part", b"1"), (b"X-Part", b"2")]})

    exchange = await Exchange("GET", "/").run(app)

    assert exchange.headers == {"x-part": "1, 2"}


async def turns() -> None:
    """Let the loop go on, until nothing is left to run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_client_that_leaves_is_told_of_and_reads_nothing_more() -> None:
    """What the app sends then raises nothing, and reaches nobody."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        heard.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"two"})

    exchange = Exchange("GET", "/")
    running = asyncio.create_task(exchange.run(app))
    await turns()
    before = list(heard)
    exchange.leave()
    await running

    assert (["http.request"], ["http.request", "http.disconnect"]) == (before, heard)
    assert (b"one", None) == (exchange.body, exchange.finished)


@pytest.mark.parametrize("number", range(4))
async def test_a_client_leaves_after_so_many_turns(number: int) -> None:
    """Counted from where the app begins."""
    counted = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal counted
        await receive()
        listening = asyncio.ensure_future(receive())
        for _ in range(10):
            counted += not exchange.gone
            await asyncio.sleep(0)
        assert {"type": "http.disconnect"} == await listening

    exchange = Exchange("GET", "/")
    exchange.leaves_after = number
    await exchange.run(app)

    assert number + 1 == counted


async def test_each_message_waits_until_it_is_taken() -> None:
    """As for a server whose client reads slowly; a client that has left takes the rest."""
    taken, sent = Probe(), list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(3):
            sent.append(number)
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})

    exchange = Exchange("GET", "/")
    exchange.taken = taken
    running = asyncio.create_task(exchange.run(app))
    for number in range(2):
        await turns()
        assert list(range(number)) == sent
        taken.release(taken.calls[number])
    await turns()
    seen = (exchange.body, sent[:])
    exchange.leave()
    await running

    assert (b"01", [0, 1]) == seen
    assert [0, 1, 2] == sent
    assert 0 == taken.inside


async def test_a_client_that_leaves_is_told_by_receive_or_by_send_as_well() -> None:
    """As in ASGI 2.3, and with `raises` as in ASGI 2.4."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        exchange.leave()
        seen.append((scope["asgi"]["spec_version"], (await receive())["type"]))
        await send({"type": "http.response.start", "status": 200})

    seen: list[Any] = []
    exchange = Exchange("GET", "/")
    await exchange.run(app)
    exchange = Exchange("GET", "/")
    exchange.raises = True
    with pytest.raises(OSError, match="has left"):
        await exchange.run(app)

    assert [("2.3", "http.disconnect"), ("2.4", "http.disconnect")] == seen
