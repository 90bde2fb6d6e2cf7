"""What the judge measures of a learner's methods, in a cell and here: time, CPU time, memory, and a virtual clock."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from checks.harness.judge import kernel
from checks.harness.judge.cost import many_cost, memory, ring
from checks.harness.judge.timed import busiest_line, explained, reference, side_by_side
from tests.judge.conftest import Learner
from tests.waiting import until

MODEL = """
import asyncio, threading, time

class Model:
    def __init__(self, seconds):
        self.seconds, self.lock, self.kept = seconds, threading.Lock(), []

    async def predict(self, features):
        await asyncio.sleep(self.seconds)

    async def forgotten(self, features):
        asyncio.sleep(self.seconds)

    def predict_blocking(self, features):
        time.sleep(self.seconds)

    def locked(self, features):
        with self.lock:
            time.sleep(self.seconds)

    def spins(self, features):
        for _ in range(100):
            sum(range(100))

    def elsewhere(self, features):
        thread = threading.Thread(target=sum, args=(range(100_000),))
        thread.start()
        thread.join()

    def keeps(self, features):
        self.kept.append(features)

    async def fails(self, features):
        raise ValueError("no")
"""


@pytest.fixture(params=["in a cell", "here"])
def thing(request: pytest.FixtureRequest, learner: Learner) -> Any:
    """The module with the model."""
    if request.param == "in a cell":
        return learner.wrote(MODEL)
    learner.wrote("")
    module = ModuleType("thing")
    exec(MODEL, vars(module))
    return module


def test_calls_wait_side_by_side(thing: Any) -> None:
    """Each takes its time by this process's clock, and all of them hardly more; one may begin later."""
    model = thing.Model(0.1)
    calls = [(0.0, [float(n)]) for n in range(20)] + [(0.05, [1.0])]
    for method, awaits in ((model.predict, True), (model.predict_blocking, False)):
        timed = side_by_side(method, calls, awaits=awaits)

        assert 0.098 <= min(timed.seconds)
        assert 0.148 <= timed.together


def test_what_a_call_raises_is_raised(thing: Any) -> None:
    """As it would be by itself."""
    with pytest.raises(ValueError, match="no"):
        side_by_side(thing.Model(0.1).fails, [(0.0, [1.0])], awaits=True)


def test_a_virtual_clock_is_exact(thing: Any, learner: Learner) -> None:
    """It says how long each call waits, and which coroutine nobody awaited."""
    model = thing.Model(30)
    waited = explained(model.predict, [(0, [1.0]), (15, [1.0])], learner.workspace)

    assert [30.0, 30.0] == pytest.approx(waited.seconds)
    assert "sleep" == explained(model.forgotten, [(0, [1.0])], learner.workspace).forgotten
    assert not waited.forgotten


def test_the_line_where_threads_wait_is_named(learner: Learner) -> None:
    """While they wait there; a control of the lab's own has no line."""
    model = learner.wrote(MODEL).Model(0.2)
    found: list[str | None] = []
    look = (0.1, lambda: found.append(busiest_line(model.locked, learner.workspace)))
    side_by_side(model.locked, [(0.0, [1.0])] * 4, awaits=False, meanwhile=look)
    control = reference(model, 0.2)
    side_by_side(control.predict_blocking, [(0.0, [1.0])] * 4, awaits=False, meanwhile=look)

    assert "with self.lock:" in str(found[0])
    assert found[1] is None


def test_costs_are_those_of_the_process_where_it_runs(thing: Any) -> None:
    """CPU time grows with the number of calls, and memory with what is kept; a ring costs and keeps little."""
    model, control = thing.Model(0), ring(thing.Model, 100)
    many_cost(model.keeps, 0.1, 1000)
    before = memory(model.keeps)
    many_cost(model.keeps, 0.1, 5_000_000)  # more than a process may have at hand from what it gave up

    assert memory(model.keeps) - before > 1_000_000
    assert many_cost(model.spins, 0.1, 2000) > 5 * many_cost(control.record, 0.1, 2000)


def test_threads_that_have_ended_have_computed(thing: Any) -> None:
    """What is computed on a thread of its own costs as much."""
    model = thing.Model(0)

    assert many_cost(model.elsewhere, 0.1, 20) > 20 * many_cost(model.spins, 0.1, 1) / 2


@pytest.mark.skipif(not kernel.can_look(), reason="no /proc here")
def test_the_kernel_tells_who_sleeps_and_who_runs() -> None:
    """A process that waits is asleep, and has not run between two looks; one that computes is or has."""
    codes = ["import sys; sys.stdin.read()", "while True: pass"]
    sleeper, runner = (subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for code in codes)
    try:

        def rests(pid: int) -> bool:
            first, second = kernel.look([pid]), kernel.look([pid])
            return first.asleep and first == second

        until(lambda: rests(sleeper.pid), "a process that waits")
        until(lambda: kernel.computed(runner.pid) > 0.05, "CPU time")

        assert not kernel.look([sleeper.pid, runner.pid]).asleep
        assert 1 == kernel.threads(sleeper.pid)
        assert {sleeper.pid, runner.pid} <= {*kernel.family(os.getpid())}
    finally:
        for process in (sleeper, runner):
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()
