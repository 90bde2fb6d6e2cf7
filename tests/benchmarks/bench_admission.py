"""What admission control gives in an overload, and what it costs when nothing is refused: the solution's.

uv run pytest -s tests/benchmarks/bench_admission.py
"""

from __future__ import annotations

import asyncio
import importlib
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from checks.harness import ROOT
from checks.harness.assertions.overload import Load, overload
from checks.harness.cell.exchange import Exchange
from checks.harness.processes.servers import server, uvicorn_command
from checks.harness.workspace import open_workspace

ROUNDS = 9
REQUESTS = 500
SLOTS, SECONDS = 4, 0.1


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A folder in which the solution runs."""
    return open_workspace(ROOT, ROOT / "solutions", tmp_path / "tree").tree


@pytest.fixture
def control(solution: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The solution's class."""
    monkeypatch.syspath_prepend(solution)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("lab.admission").AdmissionControl


def bare() -> FastAPI:
    """A service with one route, which does nothing."""
    app = FastAPI()

    @app.get("/predict")
    async def predict() -> dict[str, bool]:
        return {"ok": True}

    return app


def spread_of(values: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def test_goodput_at_twice_the_capacity(solution: Path) -> None:
    """At least 0.95 of the capacity is answered in time, and a refusal takes under 5 ms in the median."""
    model = {"LAB_SLOTS": SLOTS, "LAB_SLOT_SECONDS": SECONDS}
    limits = {"LAB_MAX_IN_FLIGHT": SLOTS, "LAB_MAX_QUEUE": SLOTS, "LAB_QUEUE_SECONDS": 1}
    env = {name: str(value) for name, value in (model | limits).items()} | {"PYTHONPATH": os.fspath(ROOT)}
    loads: list[Load] = []
    with server(
        uvicorn_command("checks.harness.cell.known_capacity:create_app", factory=True), env=env, cwd=solution
    ) as running:
        for seed in range(ROUNDS):
            loads += overload([running.url], slots=SLOTS, seconds=SECONDS, times=2, lasting=4, seed=seed)
    goodput = [load.goodput / load.capacity for load in loads]
    refused = [load.refused_in * 1000 for load in loads]
    print(f"\ngoodput / capacity at 2x: {spread_of(goodput)}; a refusal in ms: {spread_of(refused)}")

    assert statistics.median(goodput) >= 0.95
    assert statistics.median(refused) < 5


def test_cost_when_nothing_is_refused(control: Any) -> None:
    """At most 5 % of the bare app's requests/s, in process: there no server and no network hide the cost.

    CPU time, in rounds that alternate; beside it a second bare app against the first, which shows the noise.
    """

    async def seconds(app: FastAPI) -> float:
        started = time.process_time()
        for _ in range(REQUESTS):
            await Exchange("GET", "/predict").run(app)
        return time.process_time() - started

    async def measure() -> tuple[list[float], list[float]]:
        guarded, other = bare(), bare()
        guarded.add_middleware(control, max_in_flight=1000, max_queue=1000, queue_seconds=1.0)
        apps = [bare(), guarded, other]
        rounds = [[await seconds(app) for app in apps] for _ in range(4 * ROUNDS)]
        return [a / b for a, b, _ in rounds[1:]], [a / c for a, _, c in rounds[1:]]

    with_control, without = asyncio.run(measure())
    print(f"\nrequests/s of those of a bare app: {spread_of(with_control)}; of another bare app: {spread_of(without)}")

    assert statistics.median(with_control) >= 0.95
