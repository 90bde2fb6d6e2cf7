"""The reference admission control, under random arrivals, failures and cancellations, in any order and any instant."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.harness import ROOT
from checks.harness.cell.exchange import Exchange
from checks.harness.cell.virtual_time import virtual_time
from checks.harness.workspace import open_workspace

INSTANTS = [0.0, 0.0, 0.0, 0.5, 1.0]
"""Seconds until the next event: mostly none, so that much happens in the same instant."""

events = st.lists(
    st.tuples(
        st.sampled_from(INSTANTS),
        st.sampled_from(["arrive", "arrive", "arrive", "serve", "crash", "cancel inside", "cancel waiting"]),
        st.integers(0, 99),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The solution's class."""
    tree = open_workspace(ROOT, ROOT / "solutions", tmp_path_factory.mktemp("tree")).tree
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "lab"}
    sys.path.insert(0, str(tree))
    yield importlib.import_module("lab.admission").AdmissionControl
    sys.path.remove(str(tree))
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]
    sys.modules |= others


class Crash(Exception):
    """What some requests end in."""


class Scene:
    """An admission control, an app behind it that holds its requests, and what has been seen of them."""

    def __init__(self, control: Any, max_in_flight: int, max_queue: int, queue_seconds: float) -> None:
        limits = {"max_in_flight": max_in_flight, "max_queue": max_queue, "queue_seconds": queue_seconds}
        self.app = control(self.hold, **limits)
        self.gates: dict[asyncio.Future[bool], asyncio.Task[Any]] = {}
        self.tasks: dict[asyncio.Task[Any], Exchange] = {}
        self.entered: dict[int, float] = {}
        self.peak = 0

    async def hold(self, scope: Any, receive: Any, send: Any) -> None:
        """The app: keeps a request until its gate says how it ends."""
        gate = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None
        self.gates[gate] = task
        self.entered[scope["number"]] = asyncio.get_running_loop().time()
        self.peak = max(self.peak, len(self.gates))
        try:
            if not await gate:
                raise Crash
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
        finally:
            del self.gates[gate]

    def arrive(self) -> None:
        """One more request."""
        exchange = Exchange("POST", "/predict")
        exchange.scope["number"] = len(self.tasks)
        self.tasks[asyncio.ensure_future(exchange.run(self.app))] = exchange

    def waiting(self) -> list[asyncio.Task[Any]]:
        """Who has neither got in nor been answered."""
        return [task for task in self.tasks if not task.done() and task not in self.gates.values()]

    def happen(self, what: str, which: int) -> None:
        """One event of the script; nothing where there is nobody whom it could happen to."""
        open_gates = [gate for gate in self.gates if not gate.done()]
        if what == "arrive":
            self.arrive()
        elif what == "cancel waiting":
            if waiting := self.waiting():
                waiting[which % len(waiting)].cancel()
        elif open_gates:
            gate = open_gates[which % len(open_gates)]
            if what == "cancel inside":
                self.gates[gate].cancel()
            else:
                gate.set_result(what == "serve")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(max_in_flight=st.integers(1, 3), max_queue=st.integers(0, 3), script=events)
def test_whatever_happens_no_slot_is_lost(control: Any, max_in_flight: int, max_queue: int, script: Any) -> None:
    """Never too many inside or waiting, everybody gets an answer in order of arrival, and all slots come home."""

    async def play() -> None:
        scene = Scene(control, max_in_flight, max_queue, queue_seconds=1.0)
        for seconds, what, which in script:
            if seconds:
                await asyncio.sleep(seconds)
                assert len(scene.gates) <= max_in_flight
                assert len(scene.waiting()) <= max_queue
            scene.happen(what, which)
        await asyncio.sleep(0)
        while scene.gates or scene.waiting():
            for gate in scene.gates:
                if not gate.done():
                    gate.set_result(True)
            await asyncio.sleep(0.01)
        outcomes = await asyncio.gather(*scene.tasks, return_exceptions=True)

        assert scene.peak <= max_in_flight
        moments = [scene.entered[number] for number in sorted(scene.entered)]
        assert moments == sorted(moments)  # nobody got in before one who came earlier
        for outcome, exchange in zip(outcomes, scene.tasks.values(), strict=True):
            assert isinstance(outcome, Crash | asyncio.CancelledError) or exchange.status in (200, 503)

        for _ in range(max_in_flight + 1):
            scene.arrive()
        await asyncio.sleep(0.01)
        assert len(scene.gates) == max_in_flight
        for gate in scene.gates:
            gate.set_result(True)
        await asyncio.sleep(2)
        for gate in scene.gates:
            gate.set_result(True)
        await asyncio.sleep(0.01)
        assert not scene.gates

    virtual_time(play())


def test_a_slot_given_in_the_instant_of_a_cancellation_goes_on(control: Any) -> None:
    """Who is cancelled when the slot is already theirs hands it to the next."""

    async def play() -> None:
        scene = Scene(control, 1, 2, queue_seconds=60)
        for _ in range(3):
            scene.arrive()
        await asyncio.sleep(0)
        first, second, third = scene.tasks
        next(iter(scene.gates)).set_result(True)
        while not first.done():  # noqa: ASYNC110 - to the very turn of the loop
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0.01)

        assert second.cancelled()
        assert [*scene.gates.values()] == [third]

    virtual_time(play())


@pytest.mark.parametrize("scope", [{"type": "lifespan"}, {"type": "websocket", "path": "/predict"}])
def test_what_is_not_http_passes_untouched(control: Any, scope: dict[str, str]) -> None:
    """The lifespan and WebSockets hold no slot."""
    passed: list[Any] = []

    async def app(*given: Any) -> None:
        passed.append(given)

    for _ in range(3):
        asyncio.run(control(app, max_in_flight=1, max_queue=0, queue_seconds=1)(scope, "receive", "send"))

    assert passed == [(scope, "receive", "send")] * 3
