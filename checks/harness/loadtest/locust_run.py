"""Load tests: Locust, headless and in processes of its own, with the learner's locustfile, against a target."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from checks.harness import ROOT
from checks.harness.errors import Failure, Inconclusive, LearnerError, StubError, cut
from checks.harness.loadtest.locate import LOCUSTFILE, not_found
from checks.harness.loadtest.locust_process import Ended, Locusts, locust_arguments
from checks.harness.loadtest.recording import LATE, Plan, Recording, hint_for_raised, lateness, recording
from checks.harness.loadtest.targets import Target, target
from checks.harness.machine import load_in_words
from checks.harness.processes.servers import free_port
from checks.harness.progress import say
from checks.harness.source_lines import last_raised
from checks.harness.workspace import Workspace

START_SECONDS = 30.0
"""What Locust may take to start and to end beside its load, on a very busy machine."""
OVERDUE_SECONDS = 2.5
"""How long after its last step a shape may go on: Locust calls it once a second."""
LEFT_SECONDS = 10.0
"""How long the processes of a distributed run go on after the first of them has ended."""
AT_ONCE = 6
"""So many load tests run side by side: more of them would wait for a core."""
AHEAD_SECONDS = 30.0
"""How long a checkpoint that has passed waits for load tests of later ones."""

SPARE_CPU_SECONDS = 6
"""CPU time that a run may take beside its load: for its first and its last second."""
_OUT_OF_TIME = getattr(signal, "SIGXCPU", 24)
_RECORDER = ROOT / "checks/harness/cell/locust_recorder.py"


@dataclass(frozen=True, slots=True)
class NoRun:
    """A load test that left no recording, and why."""

    failure: Failure
    stub: bool = False
    starved: bool = False
    """The machine was too busy for it."""


_RAN: TypeAdapter[Recording | NoRun] = TypeAdapter(Recording | NoRun)


class LoadTests:
    """The load tests of a session. Results go to `folder`, which all checkpoints share: no load test runs twice.

    `ahead` are the plans of later checkpoints. They run in the same seconds as those that are called for: load tests
    are made of waiting.
    """

    def __init__(self, workspace: Workspace, folder: Path, ahead: Sequence[Plan] = ()) -> None:
        self._workspace = workspace
        self._folder = folder
        self._ahead = ahead
        self._used: set[Path] = set()
        self._running: dict[Path, Future[None]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._locusts: Locusts | None = None
        self._over = False

    def __call__(self, *plans: Plan) -> list[Recording]:
        """Run the plans side by side, or take what was recorded of them before, in their order.

        Raises:
            LearnerError: the learner's locustfile cannot be run; of its kind `StubError`: there is nothing in it yet.
            Inconclusive: the machine was too busy for Locust.
        """
        paths = [self._path(plan) for plan in plans]
        missing = [plan for plan, path in zip(plans, paths, strict=True) if not path.exists()]
        if missing:
            self._locusts = self._locusts or Locusts(self._workspace.tree)
            longest_first = sorted(self._ahead, key=lambda plan: -plan.seconds)
            self._running = {
                self._path(plan): self._pool.submit(self._store, plan)
                for plan in dict.fromkeys([*missing, *longest_first])
                if not self._path(plan).exists()
            }
            self._say(missing)
            for plan in missing:
                self._running[self._path(plan)].result()
            say(self._folder, "", 0)
        self._used.update(paths)
        return [_usable(_RAN.validate_python(json.loads(path.read_text()))) for path in paths]

    def finish(self, *, passed: bool) -> None:
        """Wait for the load tests of later checkpoints if this one has `passed`; else drop them: its verdict is due."""
        if passed and (left := [future for future in self._running.values() if not future.done()]):
            self._say([plan for plan in self._ahead if not self._path(plan).exists()])
            wait(left, AHEAD_SECONDS)
            say(self._folder, "", 0)
        self._over = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._locusts:
            self._locusts.end()

    def forget(self) -> None:
        """Drop what was used: it proved nothing, and must be measured anew."""
        for path in self._used:
            path.unlink(missing_ok=True)

    def _path(self, plan: Plan) -> Path:
        return self._folder / f"{hashlib.sha256(repr(plan).encode()).hexdigest()[:16]}.run"

    def _say(self, plans: Sequence[Plan]) -> None:
        names = [plan.what for plan in plans]
        what = " and ".join(names) if len(names) < 3 else f"{len(names)} load tests side by side"
        say(self._folder, what, max(plan.seconds for plan in plans) + 2)

    def _store(self, plan: Plan) -> None:
        ran, path = self._run(plan), self._path(plan)
        if self._over:  # it was ended
            return
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(_RAN.dump_python(ran)))
        partial.replace(path)

    def _run(self, plan: Plan) -> Recording | NoRun:
        with target(plan.service) as running, tempfile.TemporaryDirectory(dir=self._folder) as folder:
            records = [Path(folder, f"record{number}.json") for number in range(1 + plan.workers)]
            assert self._locusts
            ended = _locust(self._locusts, plan, running, records, self._workspace.tree)
            codes = [one.code for one in ended]
            if codes[0] is not None and all(record.exists() for record in records):
                kept = [json.loads(record.read_text()) for record in records]
                return recording(plan, kept, codes, running, self._workspace)
            if self._locusts.killed:
                return NoRun(
                    Failure("the process that starts Locust was killed", "a load test that ends no other process")
                )
            worst = next((one for one, record in zip(ended, records, strict=True) if not record.exists()), ended[0])
            return _no_run(plan, worst, running, self._workspace)


def _usable(ran: Recording | NoRun) -> Recording:
    """A recording that can be judged; raises where there is none."""
    if isinstance(ran, NoRun):
        failure = ran.failure
        if ran.starved:
            raise Inconclusive(failure.seen)
        raise (StubError if ran.stub else LearnerError)(
            failure.seen, failure.where, wanted=failure.wanted, hint=failure.hint, explains_itself=not ran.stub
        )
    fault = ran.fault("task")
    if fault and fault.stub:
        raise StubError(fault.words, fault.where)
    if fault and not ran.requests:
        seen = f"Locust counted no request: {fault.words}"
        raise LearnerError(seen, fault.where, wanted="a task that runs", hint=fault.hint)
    return ran


def _locust(locusts: Locusts, plan: Plan, running: Target, records: Sequence[Path], tree: Path) -> list[Ended]:
    """Run Locust to its end: one process for each of `records`, the first of several is the master."""
    common = [f"--host={running.url}", f"--stop-timeout={plan.stop_seconds}"]
    roles: list[list[str]] = [[]]
    if plan.workers:
        port = free_port()
        bound = ["--master-bind-host=127.0.0.1", f"--master-bind-port={port}"]
        master = ["--master", f"--expect-workers={plan.workers}", *bound]
        worker = ["--worker", "--master-host=127.0.0.1", f"--master-port={port}"]
        roles = [master, *[worker] * plan.workers]
    files = [tree / LOCUSTFILE, _RECORDER]
    seconds = plan.seconds + OVERDUE_SECONDS + plan.stop_seconds + START_SECONDS
    ended: list[float] = []

    def run(role: list[str], record: Path) -> Ended:
        arguments = locust_arguments(*common, *role, locustfiles=files)
        try:
            return locusts.run(
                arguments,
                _load_variables(plan, record),
                _cpu_seconds(plan),
                seconds,
                stop=lambda: bool(ended) and time.monotonic() > ended[0] + LEFT_SECONDS,
            )
        finally:
            ended.append(time.monotonic())

    with ThreadPoolExecutor(len(roles)) as pool:
        return [*pool.map(run, roles, records)]


def _cpu_seconds(plan: Plan) -> int:
    """CPU time after which a process of a run is in an endless loop: it computes for at most its load's seconds."""
    return math.ceil(SPARE_CPU_SECONDS + 1.2 * plan.seconds)


def _load_variables(plan: Plan, record: Path) -> dict[str, str]:
    """What the learner's locustfile and the recorder read from the environment."""
    planned = {
        "path": str(record),
        "users": plan.users,
        "steps": plan.steps,
        "step_seconds": plan.step_seconds,
        "pace_seconds": plan.pace_seconds,
        "grace": OVERDUE_SECONDS,
        "pause_seconds": plan.pause_seconds,
    }
    return {
        "LOAD_RECORDER": json.dumps(planned),
        "LOAD_PACE_SECONDS": f"{plan.pace_seconds:g}",
        "LOAD_SLO_MS": f"{plan.slo_ms:g}",
        "LOAD_DEADLINE_MS": f"{plan.deadline_ms:g}",
        "LOAD_STEPS": str(plan.steps),
        "LOAD_STEP_USERS": str(plan.users),
        "LOAD_STEP_SECONDS": f"{plan.step_seconds:g}",
    }


def _no_run(plan: Plan, ended: Ended, running: Target, workspace: Workspace) -> NoRun:
    """Why Locust left no record."""
    code, log = ended.code, ended.printed
    if not (workspace.tree / LOCUSTFILE).exists():
        return NoRun(Failure(f"there is no {LOCUSTFILE} in {workspace.name}", "the file of the stub", where=LOCUSTFILE))
    where, raised = workspace.where_printed(log), last_raised(log)
    if code is None:
        if lateness(running.lags) > LATE or running.clock.busy:
            return NoRun(Failure(f"this machine is too busy for Locust: {load_in_words()}"), starved=True)
        seen = "Locust did not end by itself, and was killed with all its processes"
        return NoRun(Failure(seen, "a load test that ends: nothing in it blocks for ever", where=where))
    if code in (-_OUT_OF_TIME, 128 + _OUT_OF_TIME):
        seen = f"Locust computed for {_cpu_seconds(plan)} s and did not end: an endless loop stops everything else"
        where = workspace.where_printed(log, innermost_last=False)
        return NoRun(Failure(seen, "a load test that ends: nothing in it computes for ever", where=where))
    if "Address already in use" in log:
        return NoRun(Failure("another process took the port of Locust's master"), starved=True)
    if "No User class found" in log:
        what, wanted = f"Locust found no user class in {LOCUSTFILE}", "`class InferenceUser(FastHttpUser)`"
        return NoRun(not_found(workspace, "user", what, wanted, LOCUSTFILE))
    if where and raised.startswith("NotImplementedError"):
        return NoRun(Failure(raised.removeprefix("NotImplementedError: "), where=where), stub=True)
    if where and raised:
        when = "" if plan.pace_seconds else " with LOAD_PACE_SECONDS=0"
        seen = f"Locust cannot run it{when}: {raised}"
        return NoRun(Failure(seen, "a locustfile that can be imported", hint_for_raised(raised), where))
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "it printed nothing")
    return NoRun(
        Failure(f"Locust ended with exit code {code}: {cut(last.strip(), 200)}", "a load test that runs", where=where)
    )
