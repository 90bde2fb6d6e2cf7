"""What the reference's timing costs a request, a record, a summary: in process, on uvicorn, in memory.

    uv run pytest -s tests/benchmarks/bench_timing.py

Where requests are sent, only ratios to the same app without middleware are judged, each taken within one round in which
every app has its turn, and of CPU time, which other work on the machine hardly adds to. In process the service's own
`POST /predict` is judged, with a model that takes no time; on uvicorn a route that computes for 1 ms. Where a request
is nothing but framework a log line weighs more (about 0.65 of the bare requests/s): that is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from checks.harness import ROOT
from checks.harness.cell.behind import on_base_http
from checks.harness.cell.exchange import App, Exchange, Message
from checks.harness.load.generator import closed_loop
from checks.harness.processes.servers import Server, server, uvicorn_command
from checks.harness.workspace import open_workspace

BODY = json.dumps({"features": [1.0, 2.0, 6.0]}).encode()
PREDICT, SMALLEST, COMPUTE = ("POST", "/predict", BODY), ("GET", "/", None), ("GET", "/compute", None)
CPU_TIME = pytest.mark.benchmark(timer=time.process_time)

WARM_UP, REQUESTS, ROUNDS = 200, 200, 31
CONNECTIONS, SECONDS, SERVED_ROUNDS = 32, 0.5, 15
SMALL, LARGE, RECORDS = 1_000, 100_000, 1_000_000


def bare() -> FastAPI:
    """The service's routes, one that does nothing and one that computes for 1 ms. `lab` is the reference by now."""
    from lab.errors import invalid_request
    from lab.model import SimulatedModel
    from lab.service import router

    app = FastAPI()
    app.state.model = SimulatedModel(seconds=0)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.include_router(router)

    @app.get("/")
    async def root() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/compute")
    async def compute() -> dict[str, bool]:
        ends = time.thread_time() + 0.001
        while time.thread_time() < ends:
            pass
        return {"ok": True}

    return app


def timing() -> FastAPI:
    """With the timing middleware alone."""
    from lab.timing import TimingMiddleware

    app = bare()
    app.add_middleware(TimingMiddleware)
    return app


def base_http() -> FastAPI:
    """With the timing middleware of most tutorials."""
    app = bare()
    app.add_middleware(on_base_http)
    return app


def silent() -> FastAPI:
    """With the service's whole stack but for the log line."""
    return stack(log=False)


def stack(*, log: bool = True) -> FastAPI:
    """With the service's whole stack: request id, timing into metrics, a JSON line on stdout."""
    from lab.logs import RequestIdMiddleware, configure_logging, log_request
    from lab.timing import Metrics, TimingMiddleware

    configure_logging()
    app = bare()
    app.add_middleware(TimingMiddleware, metrics=Metrics(), log=log_request if log else None)
    app.add_middleware(RequestIdMiddleware)
    return app


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that holds the solution's modules and the given ones; `import lab` finds them there, in here, too."""
    workspace = open_workspace(ROOT, ROOT / "solutions", tmp_path_factory.mktemp("reference"))
    workspace.load("service")
    yield workspace.tree
    sys.path.remove(str(workspace.tree))


@pytest.fixture
def window(reference: Path) -> Callable[[int], Any]:
    """The reference's `LatencyWindow`."""
    from lab.timing import LatencyWindow

    return LatencyWindow


class Sending(Exchange):
    """A request with a JSON body, or with none."""

    def __init__(self, method: str, path: str, body: bytes | None) -> None:
        fields = {"content-type": "application/json", "content-length": str(len(body))} if body else {}
        super().__init__(method, path, {"host": "localhost", "accept": "*/*", **fields}.items())
        self._body = body or b""

    async def _receive(self) -> Message:
        return {**await super()._receive(), "body": self._body}


def judged(what: str, values: Iterable[float], unit: str = "x") -> float:
    """The median, which is printed with its spread."""
    low, *_, high = values = sorted(values)
    print(f"\n  {what}: {statistics.median(values):.3f} {unit} ({low:.3f} to {high:.3f})", end="")
    return statistics.median(values)


def taken_in_turns(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each measures in each round; who goes first changes, so that none gains from what another leaves behind."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    names = [*measures]
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(measures[name]())
    return found


def ratios(numerators: Iterable[float], denominators: Iterable[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


@pytest.mark.parametrize(("method", "path", "body"), [PREDICT, SMALLEST], ids=["predict", "smallest"])
def test_cost_in_process(method: str, path: str, body: bytes | None, reference: Path) -> None:
    """Timing alone takes at most 1.25 times the CPU time of none, the whole stack at most 2 times."""

    async def cpu_seconds(app: App, requests: int) -> float:
        started = time.process_time()
        for _ in range(requests):
            exchange = await Sending(method, path, body).run(app)
            assert exchange.status == 200
        return (time.process_time() - started) / requests

    def turn(runner: asyncio.Runner, app: App) -> float:
        return runner.run(cpu_seconds(app, REQUESTS))

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), asyncio.Runner() as runner:
        apps = {make.__name__: make() for make in (bare, timing, base_http, silent, stack)}
        for app in apps.values():
            runner.run(cpu_seconds(app, WARM_UP))
        turns = {
            name: functools.partial(lambda app: runner.run(cpu_seconds(app, REQUESTS)), app)
            for name, app in apps.items()
        }
        found = taken_in_turns(ROUNDS, turns)
    print(f"\n{method} {path} in process, CPU time of a request ({ROUNDS} rounds):", end="")
    judged("bare", (seconds * 1e6 for seconds in found["bare"]), "us")
    costs = {name: judged(f"{name} / bare", ratios(found[name], found["bare"])) for name in [*apps][1:]}
    judged("log line", ((b - a) * 1e6 for a, b in zip(found["silent"], found["stack"], strict=True)), "us")
    judged("stack / silent", ratios(found["stack"], found["silent"]))

    assert costs["timing"] <= 1.25
    assert costs["stack"] <= 2 or path != "/predict"


@pytest.mark.parametrize(("method", "path", "body"), [PREDICT, SMALLEST, COMPUTE], ids=["predict", "smallest", "1 ms"])
def test_throughput_on_uvicorn(method: str, path: str, body: bytes | None, reference: Path) -> None:
    """With timing alone uvicorn gives at least 0.9 of the bare app's requests/s, with the whole stack 0.8.

    Judged are requests per second of the server's CPU time: what a core of its own gives. By the clock it is printed.
    """
    with contextlib.ExitStack() as servers:
        running: dict[str, Server] = {}
        for make in (bare, timing, stack):
            command = uvicorn_command(f"tests.benchmarks.bench_timing:{make.__name__}", factory=True)
            # The log goes nowhere: a reader of it would share two cores with the server and the load.
            quiet = ["sh", "-c", 'exec "$@" > /dev/null', "sh", *command]
            running[make.__name__] = servers.enter_context(server(quiet, env={"PYTHONPATH": str(ROOT)}, cwd=reference))
        costs: dict[str, list[float]] = {name: [] for name in running}

        def throughput(name: str) -> float:
            process = psutil.Process(*running[name].pids)
            before = sum(process.cpu_times()[:2])
            url = running[name].url + path
            load = closed_loop(url, connections=CONNECTIONS, seconds=SECONDS, method=method, body=body)
            assert len(load.requests) == len(load.answered)
            costs[name].append((sum(process.cpu_times()[:2]) - before) / len(load.requests) * 1e6)
            return load.throughput

        found = taken_in_turns(SERVED_ROUNDS, {name: functools.partial(throughput, name) for name in running})
    print(f"\n{method} {path} on uvicorn, {CONNECTIONS} connections ({SERVED_ROUNDS} rounds):", end="")
    judged("bare", found["bare"], "requests/s")
    judged("bare, CPU time of a request", costs["bare"], "us")
    shares = {}
    for name in ("timing", "stack"):
        judged(f"{name} adds", (b - a for a, b in zip(costs["bare"], costs[name], strict=True)), "us")
        judged(f"{name} / bare, requests/s by the clock", ratios(found[name], found["bare"]))
        shares[name] = judged(f"{name} / bare, requests/s of CPU time", ratios(costs["bare"], costs[name]))

    if path == "/compute":
        assert shares["timing"] >= 0.9
        assert shares["stack"] >= 0.8


def latencies(count: int) -> list[float]:
    """Seconds as services have them: half of them within 0.1, with a long tail."""
    draw = random.Random(0)
    return [draw.lognormvariate(-2.3, 1.0) for _ in range(count)]


@CPU_TIME
def test_recording(window: Callable[[int], Any], benchmark: Any) -> None:
    """To record 1e6 samples into a full window of 1e5 takes at most twice as long as into one of 1e3."""
    samples = latencies(LARGE)
    windows = [window(size) for size in (SMALL, LARGE)]
    turns = iter(windows * (RECORDS // LARGE))

    def record(full: Any) -> None:
        for seconds in samples:
            full.record(seconds)

    for full in windows:
        record(full)
    benchmark.pedantic(record, setup=lambda: ((next(turns),), {}), rounds=2 * RECORDS // LARGE)
    found = [seconds / LARGE * 1e9 for seconds in benchmark.stats.stats.data]
    judged(f"a record into {SMALL}", found[::2], "ns")
    judged(f"a record into {LARGE}", found[1::2], "ns")

    assert judged(f"into {LARGE} / into {SMALL}", ratios(found[1::2], found[::2])) <= 2


@CPU_TIME
def test_recording_with_a_full_window(reference: Path, benchmark: Any) -> None:
    """What a request pays for `GET /metrics` is the same with full windows as with empty ones."""
    from lab.timing import Metrics

    full = Metrics(LARGE)
    turns = (full if number % 2 else Metrics(LARGE) for number in range(200))

    def record(metrics: Any, count: int = SMALL) -> None:
        for _ in range(count):
            metrics.record("POST /predict", 200, 0.1, {"model": 0.09})

    record(full, LARGE)
    benchmark.pedantic(record, setup=lambda: ((next(turns),), {}), rounds=200)
    found = [seconds / SMALL * 1e9 for seconds in benchmark.stats.stats.data]
    judged("a request into empty windows", found[::2], "ns")
    judged("a request into full windows", found[1::2], "ns")

    assert judged("full / empty", ratios(found[1::2], found[::2])) <= 1.5


@CPU_TIME
def test_summary(window: Callable[[int], Any], benchmark: Any) -> None:
    """A summary of 1e5 samples takes less than 20 ms of CPU time."""
    full = window(LARGE)
    for seconds in latencies(LARGE):
        full.record(seconds)
    benchmark.pedantic(full.summary, rounds=51, warmup_rounds=2)

    assert judged(f"a summary of {LARGE}", (seconds * 1e3 for seconds in benchmark.stats.stats.data), "ms") < 20


def test_memory(window: Callable[[int], Any]) -> None:
    """A window of 1e5 that has seen twice as many samples holds less than 2 MB."""
    samples = latencies(2 * LARGE)
    tracemalloc.start()
    try:
        full = window(LARGE)
        for seconds in samples:
            full.record(seconds)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"\n  a window of {LARGE}: {held / 1e6:.3f} MB, at most {most / 1e6:.3f} MB while it grew", end="")

    assert held < 2e6
