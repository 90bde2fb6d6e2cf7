"""What of the lab's own stands beside the learner's code in a cell: routes that do as they are told, and small apps."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from checks.harness.cell.given_routes import Given
from checks.harness.cell.probe import Probe
from checks.harness.judge.app import Running
from checks.harness.judge.cost import one_costs
from checks.harness.judge.handles import attribute, beside
from tests.judge.conftest import Learner
from tests.judge.test_app import SERVICE

TIMING = """
from contextlib import contextmanager

class Metrics:
    def __init__(self):
        self.in_flight, self.names = 0, []

    def record(self, name):
        self.names.append(name)

class Passing:
    def __init__(self, app, metrics=None):
        self.app, self.metrics = app, metrics or Metrics()

    async def __call__(self, scope, receive, send):
        self.metrics.in_flight += 1
        self.metrics.record(scope["type"])
        await self.app(scope, receive, send)

class Hasty(Passing):
    async def __call__(self, scope, receive, send):
        import asyncio
        async def sending(message):
            asyncio.ensure_future(send(message))
        await self.app(dict(scope), receive, sending)

class Deaf(Passing):
    async def __call__(self, scope, receive, send):
        pass

class Slow(Passing):
    async def __call__(self, scope, receive, send):
        sum(range(20_000))
        await self.app(scope, receive, send)

class Telling(Passing):
    def __init__(self, app, log):
        self.app, self.log = app, log

    async def __call__(self, scope, receive, send):
        import time
        started = time.perf_counter()
        try:
            await self.app(scope, receive, send)
        finally:
            path = scope["route"].path if "route" in scope else "/"
            self.log(scope["method"], path, 202, time.perf_counter() - started)

class Confused(Telling):
    async def __call__(self, scope, receive, send):
        self.log(scope["method"], scope["path"], 202, 0.0)
        await self.app(scope, receive, send)

class Binding(Passing):
    async def __call__(self, scope, receive, send):
        import structlog
        structlog.contextvars.bind_contextvars(request_id="7")
        await self.app(scope, receive, send)
        structlog.contextvars.unbind_contextvars("request_id")

@contextmanager
def stage(name):
    yield
"""


@pytest.fixture
def running(learner: Learner) -> Running:
    """Apps in a cell whose lab/timing.py has some middlewares."""
    (learner.folder / "lab").mkdir()
    (learner.folder / "lab" / "timing.py").write_text(TIMING)
    return learner.serves(SERVICE)


@pytest.fixture
def timing(running: Running) -> ModuleType:
    """Their lab/timing.py."""
    return running.cell.load("timing")


@pytest.fixture
def gate() -> Probe:
    """One that holds its calls."""
    return Probe()


@pytest.fixture(params=["in a cell", "here"])
def theirs(request: pytest.FixtureRequest) -> Any:
    """The same module, in a cell and in this process."""
    if request.param == "in a cell":
        return request.getfixturevalue("timing")
    module = ModuleType("theirs")
    exec(TIMING, vars(module))
    return module


def test_an_answer_leaves_piece_by_piece(running: Running, gate: Probe) -> None:
    """Its first piece is here while the handler works on the second; what runs after the answer is seen as well."""
    after = Probe()
    app = running.app(None, {}, routes=Given("stream", [gate, after]))
    call = app.drive("GET", "/stream")
    app.until(lambda: gate.inside and call.pieces)
    first = [piece for _, piece in call.pieces]
    gate.open()
    answer = call.answer()
    app.until(lambda: after.inside)
    after.open()

    assert [b"first"] == first
    assert b"firstlast" == answer.content
    assert [b"first", b"last"] == [piece for _, piece in call.pieces]
    assert "content-length" not in answer.headers


def test_a_server_may_take_no_message(running: Running, timing: ModuleType, gate: Probe) -> None:
    """Then the app does not get past sending it, unless a middleware sends in a task of its own."""
    for middleware, early in ((timing.Passing, 0), (timing.Hasty, 1)):
        taken, went_on = Probe(), Probe()
        app = running.app(None, {}, routes=Given("sender", [went_on]), around=[middleware, timing.Metrics()])
        call = app.drive("GET", "/sends", taken=taken)
        app.until(lambda went_on=went_on: went_on.calls)  # type: ignore[misc]

        assert early == len(went_on.calls)
        taken.open()
        went_on.open()
        assert b"all" == call.answer().content


def test_a_request_is_cancelled_where_it_waits(running: Running, gate: Probe) -> None:
    """It leaves the gate, and the others stay."""
    app = running.app(None, {}, routes=Given("held", [gate]))
    one, other = app.get("/held"), app.get("/held")
    app.until(lambda: gate.inside == 2)
    one.cancel()
    app.until(lambda: one.swallowed is not None)
    gate.open()

    assert one.swallowed is False
    assert 200 == other.answer().status_code
    assert [False, True] == sorted(call.answer is not None for call in gate.calls)


def test_what_is_raised_after_an_answer_comes_out(running: Running, gate: Probe) -> None:
    """Where one waits until the app returns."""
    app = running.app(None, {}, routes=Given("errors", [gate, Probe()]))

    with pytest.raises(Exception) as caught:  # its class has this name, and is made here
        app.drive("GET", "/crash/after", until_it_returns=True).answer()
    assert "Crash" in {type(caught.value).__name__, type(caught.value.__cause__).__name__}


def test_what_stays_bound_to_the_context_is_told(running: Running, timing: ModuleType) -> None:
    """A middleware that unbinds only after an answer leaves its id behind after a crash."""
    app = running.app(None, {}, routes=Given("context"), around=[timing.Binding, timing.Metrics()])
    after_answer, after_crash = app.contexts(["/context/works", "/context/crash"], "me")

    assert {"caller": "me"} == after_answer
    assert {"caller": "me", "request_id": "7"} == after_crash


def test_small_apps_say_whether_a_middleware_passes_on(theirs: Any) -> None:
    """Whether there was an answer, and whether other scopes arrive as they came."""
    helpers, scope = beside(theirs.Passing), {"type": "lifespan"}

    assert (404, True) == helpers.small_app(theirs.Passing)
    assert (None, False) == helpers.small_app(theirs.Deaf)
    given, taken = {"type": "given", "word": "ab"}, {"type": "taken", "word": "ba"}
    assert (scope, [given], [taken], True) == helpers.passed(theirs.Passing, scope, "ab")
    assert helpers.passed(theirs.Hasty, scope, "ab")[3] is False
    assert ({}, [], [], False) == helpers.passed(theirs.Deaf, scope, "ab")
    assert 1 == helpers.lifespan_in_flight(theirs.Passing, theirs.Metrics())
    assert helpers.on_base_http(theirs.Passing, None) is False


def test_lines_of_the_middleware_are_told(theirs: Any) -> None:
    """The one that passes a request on, whether with the same scope, and those that record."""
    helpers = beside(theirs.Passing)
    watched = helpers.Watched(theirs.Metrics)
    line, same = helpers.line_that_passes_on(theirs.Passing, "/x")
    lines = watched.over()

    assert "__call__" == line[2]
    assert same is True
    assert helpers.line_that_passes_on(theirs.Hasty, "/x")[1] is False
    assert [line[1] - 1] == [number for _, number, _ in lines]


def test_the_line_that_logs_is_told(theirs: Any) -> None:
    """And whether it tells what the request was, and how long it took."""
    helpers = beside(theirs.Telling)
    (line, *right), (other, *wrong) = (helpers.logged_of_a_request(one) for one in (theirs.Telling, theirs.Confused))

    assert [True, True] == right
    assert [False, False] == wrong
    assert line[1] < other[1]
    assert [line] == helpers.lines_of_a_cancelled_request(theirs.Telling)
    assert [None, False, False] == [*helpers.logged_of_a_request(theirs.Passing)]
    assert [] == helpers.lines_of_a_cancelled_request(theirs.Passing)


def test_requests_behind_a_middleware_cost_what_it_computes(theirs: Any) -> None:
    """The CPU time of the process where it runs."""
    quick, slow = (beside(one).behind(one, "nothing") for one in (theirs.Passing, theirs.Slow))
    for one in (quick, slow):
        one.send(5)

    assert one_costs(slow.send, 100) > 3 * one_costs(quick.send, 100)


def test_names_that_python_keeps_for_itself_are_asked_for(theirs: Any) -> None:
    """A call of the handle is none of them."""
    assert "__call__" == attribute(theirs.Passing, "__call__").__code__.co_name
