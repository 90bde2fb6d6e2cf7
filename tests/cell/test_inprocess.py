"""The learner's app on a loop of its own: what a checkpoint can see of it and do to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from checks.harness import ROOT
from checks.harness.cell import inprocess
from checks.harness.cell.inprocess import Driven, InProcess
from checks.harness.cell.probe import Probe
from checks.harness.errors import BrokenOff, LearnerError, Unanswered
from checks.harness.workspace import open_workspace


@pytest.fixture
def gate() -> Probe:
    """Where requests are held."""
    return Probe()


@pytest.fixture
def app(gate: Probe, tmp_path: Path) -> Iterator[InProcess]:
    """A running app with a held answer, a held stream, and a crash."""
    theirs = FastAPI()

    async def held() -> float:
        return await gate.predict([1.0])

    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await gate.predict([1.0])
            yield b"last"

        return StreamingResponse(pieces())

    async def crash() -> None:
        raise LookupError("in a handler")

    async def late() -> None:
        async with asyncio.timeout(0):
            await gate.predict([1.0])

    async def quits() -> None:
        raise asyncio.CancelledError

    handlers = (held, stream, crash, late, quits)
    for path, handler in ((f"/{handler.__name__}", handler) for handler in handlers):
        theirs.add_api_route(path, handler, response_model=None)
    running = InProcess(theirs, open_workspace(ROOT, ROOT / "solutions", tmp_path / "tree"))
    running.progress = lambda: len(gate.calls)
    running.start()
    yield running
    gate.open()
    running.stop()


def test_who_listens_misses_nothing(app: InProcess) -> None:
    """Told before the request is sent: the loop is on another thread, and may be faster than this one."""
    heard: list[str] = []

    def listen(call: Driven) -> None:
        assert call.arrived is None
        call.arrives = lambda: heard.append("arrived")
        call.moves = lambda: heard.append("moved")

    call = app.drive("GET", "/stream", listen=listen)
    app.until(lambda: call.pieces)

    assert heard[:2] == ["arrived", "moved"]


def test_a_stream_is_watched_while_it_runs(app: InProcess, gate: Probe) -> None:
    """Its first piece is there while the handler works on the next."""
    call = app.drive("GET", "/stream")
    app.until(lambda: gate.inside and call.pieces)
    first = [body for _, body in call.pieces]
    gate.open()

    assert first == [b"first"]
    assert call.answer().content == b"firstlast"
    assert [body for _, body in call.pieces] == [b"first", b"last"]
    assert call.finished
    assert call.finished >= call.pieces[-1][0]


def test_a_cancelled_request_is_cancelled_where_it_waits(app: InProcess, gate: Probe) -> None:
    """It leaves the handler, and the others stay."""
    one, other = app.get("/held"), app.get("/held")
    app.until(lambda: gate.inside == 2)
    one.cancel()
    app.until(lambda: gate.inside == 1)
    gate.open()

    assert other.answer().json() == gate.calls[-1].answer
    app.until(lambda: one.swallowed is not None)
    assert one.swallowed is False


def test_what_is_left_when_the_app_stops_is_cancelled(app: InProcess, gate: Probe) -> None:
    """Else Python says, once nobody listens any more, that a coroutine was never finished."""
    app.get("/held")
    app.until(lambda: gate.inside)
    app.stop()

    assert gate.inside == 0


def test_an_app_that_comes_back_without_an_answer_is_told_so(app: InProcess) -> None:
    """A middleware that does not pass on what was sent, or does not wait for it."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    for theirs, words in ((silent, "an answer"), (half, "the end of its answer")):
        app.app = theirs  # type: ignore[assignment]
        with pytest.raises(Unanswered, match=f"GET /held: the app returned without {words}\nwanted: every message"):
            app.get("/held").answer()
        with pytest.raises(Unanswered):
            app.drive("GET", "/held").answer()


def test_what_a_driven_app_raises_is_raised(app: InProcess) -> None:
    """As with any other request, in a learner's words where it is not a learner's line."""
    with pytest.raises(LearnerError, match="GET /crash ended in LookupError: in a handler"):
        app.drive("GET", "/crash").answer()


@pytest.mark.parametrize(("path", "ended"), [("/late", "TimeoutError"), ("/quits", "CancelledError")])
def test_what_cuts_a_request_off_is_the_apps_own(app: InProcess, path: str, ended: str) -> None:
    """A future gives such exceptions as its own: nobody could tell who had raised them, and where."""
    with pytest.raises(BrokenOff, match=f"GET {path} ended in {ended}\nwanted: no exception") as cut:
        app.get(path).answer()

    assert cut.value.ended == ended


def test_a_middleware_that_raises_at_the_lifespan_is_named_with_the_scope(tmp_path: Path) -> None:
    """The scope is named where a function of theirs holds it; an error further down stays as it is."""
    lines = open_workspace(ROOT, ROOT / "solutions", tmp_path / "tree")
    path = lines.tree / "lab" / "broken.py"
    path.write_text(
        "async def middleware(scope, receive, send):\n    scope['headers']\n\n\n"
        "async def lifespan(app):\n    raise LookupError\n\n\n"
        "async def around(scope, receive, send):\n    await lifespan(None)\n"
    )
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)

    with pytest.raises(LearnerError, match=r"given the scope `lifespan`, which has no `headers`"):
        InProcess(names["middleware"], lines).start()
    with pytest.raises(LookupError, match=r"^$"):
        InProcess(names["around"], lines).start()


def test_what_needs_a_thread_waits_while_the_pool_is_taken(app: InProcess, gate: Probe) -> None:
    """What needs none goes on; afterwards there are threads again."""

    def threaded() -> str:
        return "on a thread"

    app.app.add_api_route("/threaded", threaded)
    gate.open()
    with app.pool_taken():
        one, other = app.get("/threaded"), app.get("/held")
        app.until(lambda: one.done)
        waits, goes_on = not one.done, other.done

    assert (waits, goes_on) == (True, True)
    assert one.answer().json() == "on a thread"


def test_a_loop_settles_when_all_that_is_ready_has_run(app: InProcess) -> None:
    """What follows from what, over many turns, has happened then; what waits for a timer or an event has not."""
    happened: list[str] = []

    async def chain() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        happened.append("chain")
        await asyncio.sleep(3600)
        happened.append("timer")

    app.submit(chain())
    app.settle()

    assert ["chain"] == happened


def test_a_loop_settles_when_no_thread_of_the_pool_is_at_work(app: InProcess) -> None:
    """What the thread hands back has run, too."""
    happened: list[str] = []
    goes_on = threading.Event()

    async def on_a_thread() -> None:
        await run_sync(goes_on.wait)
        happened.append("back")

    working = app.submit(on_a_thread())
    while not app.pool_threads_in_use():
        pass
    threading.Timer(0.05, goes_on.set).start()
    app.settle()

    assert ["back"] == happened
    working.result(0)


def test_a_loop_that_is_never_idle_is_left_alone(app: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while: the checkpoint goes on, and sees what it sees."""
    monkeypatch.setattr(inprocess, "IDLE_SECONDS", 0.05)
    over = threading.Event()

    async def turns() -> None:
        while await asyncio.sleep(0, not over.is_set()):
            pass

    spinning = app.submit(turns())
    app.settle()
    seen = spinning.done()
    over.set()
    app.until(spinning.done)

    assert (False, True) == (seen, spinning.done())


def test_a_client_that_leaves_ends_what_listens(app: InProcess, gate: Probe) -> None:
    """A `StreamingResponse` hears of it, by the version of ASGI that uvicorn speaks."""
    call = app.drive("GET", "/stream")
    app.until(lambda: gate.inside)
    call.leave()
    app.until(lambda: not gate.inside)

    assert 0 == gate.inside
