"""The fixtures: the only ways in which a checkpoint reaches the learner's work."""

from __future__ import annotations

import os
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from checks.harness.apps.feature_store import Store, running_store
from checks.harness.assertions.not_ready import why_it_is_not_ready
from checks.harness.cell import batches
from checks.harness.cell.batch_probe import BatchProbe
from checks.harness.cell.decoder_probe import DecoderProbe
from checks.harness.cell.factory import app_around, app_with, enter_lifespan, held_decoder, make_app
from checks.harness.cell.given_routes import ROUTES, Given
from checks.harness.cell.inprocess import START_SECONDS, InProcess
from checks.harness.cell.probe import Probe
from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.wall_clock import WallClock
from checks.harness.containers.deploy import Deployments
from checks.harness.containers.engine import this_run
from checks.harness.containers.image_build import Builder
from checks.harness.containers.spec import Files
from checks.harness.errors import Inconclusive, ServerDied, ServerError, ServerNotReady
from checks.harness.grading.checkpoints import CHECKPOINT, OUTCOME, SHOWN, declared, in_cell, later, needs
from checks.harness.judge import kernel
from checks.harness.judge.app import App, Running
from checks.harness.judge.cell import Cell
from checks.harness.judge.forked_server import ForkedServers
from checks.harness.judge.handles import Handle
from checks.harness.judge.start import ZYGOTE, started
from checks.harness.loadtest.locate import is_written, require_written
from checks.harness.loadtest.locust_run import LoadTests
from checks.harness.loadtest.recording import Plan, Recording
from checks.harness.loadtest.targets import Service as TargetService
from checks.harness.loadtest.targets import Target, target
from checks.harness.machine import fair_clock, load_in_words
from checks.harness.processes import process_group
from checks.harness.processes.servers import Server, server, uvicorn_command
from checks.harness.processes.theirs import LIFTED, THEIRS, environment
from checks.harness.report.evidence import Show
from checks.harness.workspace import LearnerModules, Workspace

CONTROL = "checks.harness.apps.reference:create_app"
"""A service of the lab's own, which fails only on too busy a machine."""
TALKER = "checks.harness.cell.logging_app:create_app"
"""The learner's app, with added routes whose handlers write log lines."""
KINDS = "checks.harness.apps.reference:create_bare"
"""A service of the lab's own that blocks, awaits or computes."""
OVERLOADED = "checks.harness.cell.known_capacity:create_app"
"""Theirs, around a model of known capacity."""
OVERLOADED_CONTROL = "checks.harness.cell.known_capacity:create_control"
"""The lab's own service around the same model."""
BATCHED_CONTROL = "checks.harness.apps.batched:create_app"
"""A service of the lab's own that answers in batches."""

HELD_DECODER = "checks.harness.cell.held_app:create_app"
"""The learner's app, around a decoder whose tokens are let out by requests."""

Serve = Callable[..., Server]
Launch = Callable[..., Server]
LoadTest = Callable[[], list[Recording]]


class Service:
    """`service(model=..., **settings)` starts the learner's app; `model` replaces its own model."""

    def __init__(self, start: Callable[..., InProcess | App], around: Around, create: Create) -> None:
        self._start, self._around, self._create = start, around, create
        self.started: list[InProcess | App] = []

    def __call__(self, model: Any = None, **settings: Any) -> Any:
        """An app, started: an `App`, or an `InProcess`, which has the same methods."""
        self.started.append(self._start(model, **settings))
        return self.started[-1]

    def around(self, middleware: Any, metrics: Any, routes: Given) -> Any:
        """A middleware of the learner's around an app that has these routes alone, started."""
        self.started.append(self._around(middleware, metrics, routes))
        return self.started[-1]

    def create_app(self) -> None:
        """Have an app made without settings, as a server does: they come from the environment."""
        self._create("create")

    def enter_lifespan(self) -> None:
        """Raise the stub's own exception if the lifespan is still to be written."""
        self._create("lifespan")


Around = Callable[[Any, Any, Given], InProcess | App]
Create = Callable[[str], None]
"""Tries a part of the learner's service, beside it: `create` or `lifespan`."""


_TRYING = threading.Lock()
"""Servers may be started side by side. The cell answers one question at a time."""


def _try(workspace: Workspace, lab: LearnerModules, cell: Cell | None, what: str) -> None:
    """Have a part of the learner's service run. What fails there has a line; in a server's process, only a log."""
    with _TRYING:
        lab.service.create_app  # noqa: B018  # loaded under its deadline, and there
        if cell:
            cell.ask(what)
        elif what == "create":
            make_app(lab.service, workspace)
        else:
            enter_lifespan(lab.service)


@pytest.fixture
def cell(request: pytest.FixtureRequest, workspace: Workspace, shared: Path) -> Iterator[Cell | None]:
    """Another interpreter for the learner's code; None for a debugger, which needs that code here."""
    if not in_cell(request.node):
        yield None
        return
    zygote = request.config.stash.get(ZYGOTE, None)
    process = (zygote.fork() if zygote else None) or started()
    cell = Cell(process, workspace, shared / f"stacks-{process.pid}")
    workspace.line_in_cell = cell.where_it_is
    workspace.computed_in_cell = partial(kernel.computed, cell.pid)
    yield cell
    cell.end()


@pytest.fixture
def lab(workspace: Workspace, cell: Cell | None) -> LearnerModules:
    """The learner's modules: `lab.model.SimulatedModel` loads `lab/model.py` on first use.

    They run in a cell: another interpreter, which is asked for every call.
    """
    return LearnerModules(cell.load if cell else workspace.load)


@pytest.fixture
def play(lab: LearnerModules, workspace: Workspace, cell: Cell | None) -> Callable[[dict[str, Any]], Any]:
    """`play(scene)` uses the learner's `Batcher` as a scene says, on a virtual clock: see `cell/batches.py`."""

    def begin(scene: dict[str, Any]) -> Any:
        batcher = lab.batching.Batcher
        return cell.play(batcher, scene) if cell else batches.play(batcher, scene, workspace)

    if cell:
        cell.ask("spy")
    return begin


@pytest.fixture
def service(
    request: pytest.FixtureRequest, workspace: Workspace, lab: LearnerModules, cell: Cell | None, show: Show
) -> Iterator[Service]:
    """`service(model=..., **settings)` starts the learner's app; `model`, `batch_model` and `decoder` replace its own.

    With `own_way=True` the model stands at `app.state.model`, and the learner's own `get_model` brings it.
    It runs in a cell. `routes` are `Given` ones that it serves as well. Admission control is `LIFTED` unless set.
    """
    start, around = _in_cell(cell, workspace, lab) if cell else _in_process(workspace, lab)

    def begin(
        model: Any,
        routes: Given | None = None,
        *,
        own_way: bool = False,
        batch_model: BatchProbe | None = None,
        decoder: DecoderProbe | None = None,
        **settings: Any,
    ) -> InProcess | App:
        if model is not None:
            lab.service.get_model  # noqa: B018  # where it is missing, that is said as for any name
            _say_whose_model_runs(workspace)
        beside = {"batch_model": batch_model, "decoder": decoder}
        return start(model, routes, own_way=own_way, beside=beside, **settings)

    apps = Service(begin, around, partial(_try, workspace, lab, cell))
    yield apps
    patience = START_SECONDS if request.node.stash[OUTCOME].verdict == "passed" else 1.0  # its verdict stands
    for running in apps.started:
        show.at(workspace.where_defined(running.endpoint))
        running.stop(patience)


def _in_cell(cell: Cell, workspace: Workspace, lab: LearnerModules) -> tuple[Callable[..., App], Around]:
    running = Running(cell, workspace)

    def start(
        model: Probe | None, routes: Given | None, *, own_way: bool, beside: dict[str, Any], **settings: Any
    ) -> App:
        lab.service.create_app  # noqa: B018  # loaded under its deadline, and there
        return running.app(model, LIFTED | settings, own_way=own_way, routes=routes, **beside)

    def around(middleware: Handle, metrics: Handle, routes: Given) -> App:
        return running.app(None, {}, routes=routes, around=[middleware, metrics])

    return start, around


def _in_process(workspace: Workspace, lab: LearnerModules) -> tuple[Callable[..., InProcess], Around]:
    SLEEPS.install()

    def router(routes: Given) -> Any:
        return ROUTES[routes.name](lab.timing, routes.gates, routes.plan)

    def around(middleware: Any, metrics: Any, routes: Given) -> InProcess:
        running = app_around(middleware, metrics, router(routes), workspace)
        running.start()
        return running

    def start(model: Any, routes: Given | None, *, own_way: bool, beside: dict[str, Any], **settings: Any) -> InProcess:
        given = lab.settings.Settings(**LIFTED | settings)
        more = None if routes is None else router(routes)
        models = {"model": None if own_way else model} | beside
        if decoder := beside["decoder"]:
            models["decoder"] = held_decoder(decoder.slots, decoder)
        running = app_with(lab.service, given, workspace, routes=more, **models)
        probe = next((one for one in (*beside.values(), model) if one is not None), None)
        if probe is not None:
            running.watch.held_by = probe.blocked_loop
            running.progress = probe.progress
        running.start()
        if own_way:  # a lifespan may warm its model up, which must not be held
            running.app.state.model = model
        return running

    return start, around


def _say_whose_model_runs(workspace: Workspace) -> None:
    """Explain, among what the learner's code printed, why nothing of their model's own output is there."""
    path = workspace.tree / "lab" / "model.py"
    if path.is_file() and re.search(r"\b(print|breakpoint)\(", path.read_text(errors="replace")):
        sys.stdout.write("(here a model of the lab's stands in for lab/model.py: what that one prints does not show)\n")


@pytest.fixture
def serve(
    request: pytest.FixtureRequest, workspace: Workspace, lab: LearnerModules, cell: Cell | None
) -> Iterator[Serve]:
    """`serve(workers=1, **settings)` starts the learner's app under a real uvicorn, in processes of its own.

    `app` names another factory instead of the learner's: `CONTROL`, `TALKER`, `OVERLOADED`. Admission control is
    `LIFTED` unless set.
    """
    zygote = request.config.stash.get(ZYGOTE, None)
    alone = ForkedServers(zygote) if zygote else process_group.start
    with ExitStack() as running:

        def start(workers: int = 1, app: str = THEIRS, access_log: bool = False, **settings: Any) -> Server:
            _try(workspace, lab, cell, "create")
            env = environment(settings)
            # The root comes after the workspace's own tree, which `server` puts first.
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            command = uvicorn_command(app, factory=True, workers=workers, access_log=access_log)
            try:
                begin = alone if workers == 1 else process_group.start
                return running.enter_context(server(command, env=env, cwd=workspace.tree, workers=workers, begin=begin))
            except ServerError as error:
                busy = isinstance(error, ServerNotReady) and error.busy
                if busy or app in (CONTROL, KINDS, OVERLOADED_CONTROL, BATCHED_CONTROL):
                    raise Inconclusive(f"this machine is too busy ({load_in_words()}): {error}") from error
                raise

        yield start


@pytest.fixture
def launch(
    workspace: Workspace, lab: LearnerModules, cell: Cell | None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Launch]:
    """`launch(PORT="0", LAB_INFERENCE_SECONDS="0.1")` runs `python -m lab.serve` in that environment, as deployments.

    It is ready when one worker answers. Admission control is `LIFTED`. Raises what `why_it_is_not_ready` says; a
    `ServerDied` comes through where the port was taken.
    """
    for name in ("HOST", "PORT", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as running, fair_clock() as clock:

        def start(**env: str) -> Server:
            _try(workspace, lab, cell, "create")
            command = [sys.executable, "-m", "lab.serve"]
            try:
                return running.enter_context(server(command, env=environment({}) | env, cwd=workspace.tree))
            except ServerError as error:
                if isinstance(error, ServerDied) and "address already in use" in error.output:
                    raise
                raise why_it_is_not_ready(error, workspace, clock) from error

        yield start


@pytest.fixture
def feature_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A feature store that the learner's service fetches from, over real connections."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # a proxy of this shell must not stand between the two
    with running_store() as store:
        yield store


@pytest.fixture
def wall_clock(cell: Cell | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A wall clock that can be set (`set_back`), in place before the learner's code is loaded, and where that is."""
    if cell:
        return cell.ask("wall clock")
    clock = WallClock()
    clock.install(monkeypatch.setattr)
    return clock


@pytest.fixture
def load_test(request: pytest.FixtureRequest, workspace: Workspace, seed: int, shared: Path) -> Iterator[LoadTest]:
    """`load_test()` runs the `plans` of the checkpoint's marker with the learner's locustfile; it gives the recordings.

    What another checkpoint has run is not run again. Those of later checkpoints run in the same seconds, unless a part
    that they test (`parts` of their markers) is still the stub.
    """
    own: pytest.Item = request.node
    tests = LoadTests(workspace, shared, _plans_ahead(own, workspace, seed))

    def run() -> list[Recording]:
        require_written(workspace, declared(own, "parts"))
        return tests(*(plan(seed) for plan in declared(own, "plans")))

    yield run
    verdict = own.stash[OUTCOME].verdict
    tests.finish(passed=verdict == "passed")
    if verdict == "inconclusive":
        tests.forget()


def _plans_ahead(own: pytest.Item, workspace: Workspace, seed: int) -> list[Plan]:
    """The load tests of later checkpoints that are ready for them."""
    if own.config.option.isolation == "none":  # no process of its own that ends what is left
        return []
    candidates = later(own)
    parts = {item.stash[CHECKPOINT].id: declared(item, "parts") for item in candidates}

    def ready(item: pytest.Item) -> bool:
        tested = [item.stash[CHECKPOINT].id, *needs(item)]
        return is_written(workspace, [part for one in tested for part in parts.get(one, ())])

    return [plan(seed) for item in filter(ready, candidates) for plan in declared(item, "plans")]


@pytest.fixture
def files(workspace: Workspace, shared: Path) -> Files:
    """The learner's Dockerfile, .dockerignore and compose.yaml, and what they mean together."""
    return Files(workspace.copied, ROOT, shared)


@pytest.fixture
def image(request: pytest.FixtureRequest, workspace: Workspace, files: Files, shared: Path) -> Builder:
    """`image()` is the learner's image, built on a real engine, once for all checkpoints of a run."""
    return Builder(workspace, files, ROOT, shared, this_run(request.config.option.isolation != "none"))


@pytest.fixture
def deploy(files: Files, image: Builder, shared: Path) -> Iterator[Deployments]:
    """`deploy(WEB_CONCURRENCY="2")` starts what compose would start as `api`, on a port of its own.

    It runs on a real engine where one answers, else as a plain process; `deploy.real(...)` needs the engine. Wait
    for them with `running.until_it_answers`.
    """
    with Deployments(files, image, shared) as deployments:
        yield deployments


@pytest.fixture
def serve_target() -> Iterator[Callable[[TargetService], Target]]:
    """`serve_target(service)` starts a server of known capacity, for a load from the harness's own generator."""
    with ExitStack() as running:
        yield lambda service: running.enter_context(target(service))


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Show:
    """Where a checkpoint puts the numbers and pictures that go with its verdict."""
    shown: Show = request.node.stash[SHOWN]
    return shown


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> random.Random:
    """Random inputs, the same again with the same `--seed`, whichever checkpoints run beside this one."""
    return random.Random(f"{seed} {request.node.name}")
