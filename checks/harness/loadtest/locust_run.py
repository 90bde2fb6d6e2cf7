"""Load tests: Locust, headless and in processes of its own, with the learner's locustfile, against a target."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from checks.harness import ROOT
from checks.harness.errors import Inconclusive, LearnerError, StubError
from checks.harness.load.percentiles import percentile
from checks.harness.loadtest.recording import LATE, Plan, Recording, recording
from checks.harness.loadtest.targets import Target, target
from checks.harness.processes.process_group import run_guarded
from checks.harness.progress import say
from checks.harness.workspace import Workspace

LOCUSTFILE = "loadtests/locustfile.py"
START_SECONDS = 30.0
"""What Locust may take to start and to end beside its load, on a very busy machine."""
OVERDUE_SECONDS = 2.5
"""How long after its last step a shape may go on: it is asked once a second."""

_RECORDER = ROOT / "checks/harness/cell/locust_recorder.py"


@dataclass(frozen=True, slots=True)
class NoRun:
    """A load test that left no recording: in one line why, and where in the learner's code."""

    words: str
    where: str | None = None
    stub: bool = False
    starved: bool = False


class LoadTests:
    """The load tests of a session. What one checkpoint has run another need not run again: results go to `folder`."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self._workspace = workspace
        self._folder = folder
        self._used: set[Path] = set()

    def __call__(self, *plans: Plan) -> list[Recording]:
        """Run the plans side by side, or take what was recorded of them before, in their order.

        Raises:
            LearnerError: the learner's locustfile cannot be run; of its kind `StubError`: there is nothing in it yet.
            Inconclusive: the machine was too busy for Locust.
        """
        paths = [self._folder / f"{hashlib.sha256(repr(plan).encode()).hexdigest()[:16]}.run" for plan in plans]
        missing = [(plan, path) for plan, path in zip(plans, paths, strict=True) if not path.exists()]
        if missing:
            what, seconds = " and ".join(plan.what for plan, _ in missing), max(plan.seconds for plan, _ in missing)
            say(self._folder, what, seconds + 2)
            with ThreadPoolExecutor(len(missing)) as pool:
                for (_, path), ran in zip(missing, pool.map(self._run, [plan for plan, _ in missing]), strict=True):
                    path.write_bytes(pickle.dumps(ran))
            say(self._folder, "", 0)
        self._used.update(paths)
        return [_usable(pickle.loads(path.read_bytes())) for path in paths]

    def forget(self) -> None:
        """Drop what was used: it proved nothing, and must be measured anew."""
        for path in self._used:
            path.unlink(missing_ok=True)

    def _run(self, plan: Plan) -> Recording | NoRun:
        with target(plan.service) as running, tempfile.TemporaryDirectory(dir=self._folder) as folder:
            record = Path(folder, "record.json")
            ended, log = _locust(plan, running, record, self._workspace.tree)
            if record.exists() and ended is not None:
                told = json.loads(record.read_text()) | {"exit_code": ended}
                return recording(plan, told, running.arrivals, running.lags, self._workspace)
            return _no_run(plan, ended, log, running, self._workspace)


def _usable(ran: Recording | NoRun) -> Recording:
    """A recording that can be judged, or what is to be said in its place."""
    if isinstance(ran, NoRun):
        if ran.starved:
            raise Inconclusive(ran.words)
        raise (StubError if ran.stub else LearnerError)(ran.words, ran.where, explains_itself=not ran.stub)
    fault = ran.fault("task")
    if fault and fault.stub:
        raise StubError(fault.words, fault.where)
    if fault and not ran.requests:
        raise LearnerError(f"Locust counted no request: {fault.words}\nwanted: a task that runs", fault.where)
    return ran


def locust_command(*arguments: str, locustfiles: Sequence[Path]) -> list[str]:
    """The command that runs Locust, without its web page, as a process that this interpreter can start."""
    files = ",".join(map(str, locustfiles))
    return [sys.executable, "-m", "locust", "-f", files, "--headless", "--only-summary", *arguments]


def locust_environment(tree: Path) -> dict[str, str]:
    """This process's environment without what a shell happens to export for Locust, and without proxies."""
    foreign = ("LOAD_", "LOCUST_", "PYTEST_")
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    # Without a user class Locust looks for tests in the locustfile, with pytest and all its plugins.
    quiet = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return ours | quiet | {"PYTHONPATH": str(tree), "NO_PROXY": "*", "no_proxy": "*"}


def _locust(plan: Plan, running: Target, record: Path, tree: Path) -> tuple[int | None, str]:
    """Run Locust to its end; its exit code, None when it had to be killed, and the last of what it printed."""
    command = locust_command(
        f"--host={running.url}", f"--stop-timeout={plan.stop_seconds}", locustfiles=[tree / LOCUSTFILE, _RECORDER]
    )
    told = {
        "path": str(record),
        "users": plan.users,
        "steps": plan.steps,
        "step_seconds": plan.step_seconds,
        "pace_seconds": plan.pace_seconds,
        "grace": OVERDUE_SECONDS,
    }
    env = locust_environment(tree) | {
        "LOAD_RECORDER": json.dumps(told),
        "LOAD_PACE_SECONDS": f"{plan.pace_seconds:g}",
        "LOAD_SLO_MS": f"{plan.slo_ms:g}",
        "LOAD_DEADLINE_MS": f"{plan.deadline_ms:g}",
        "LOAD_STEPS": str(plan.steps),
        "LOAD_STEP_USERS": str(plan.users),
        "LOAD_STEP_SECONDS": f"{plan.step_seconds:g}",
    }
    return run_guarded(command, env, tree, plan.seconds + OVERDUE_SECONDS + plan.stop_seconds + START_SECONDS)


_TRACEBACK_LINE = re.compile(r'^\s*File "([^"]+)", line (\d+)(?:, in (\S+))?', re.MULTILINE)
_LAST_WORDS = re.compile(r"^(\w[\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b.*)$", re.MULTILINE)


def _no_run(plan: Plan, code: int | None, log: str, running: Target, workspace: Workspace) -> NoRun:
    """Locust left no record: in one line why not."""
    if not (workspace.tree / LOCUSTFILE).exists():
        return NoRun(f"there is no {LOCUSTFILE} in {workspace.name}\nwanted: the file of the stub", LOCUSTFILE)
    lines = [
        workspace.where_line(Path(path), int(line), function or "<module>")
        for path, line, function in _TRACEBACK_LINE.findall(log)
    ]
    where = next(filter(None, reversed(lines)), None)
    raised = _LAST_WORDS.findall(log)
    if code is None:
        starved = bool(running.lags) and percentile(running.lags, 95) > LATE
        words = "Locust did not come to its end, and was killed with all its processes"
        return NoRun(words + ("" if starved else "\nwanted: nothing that blocks for ever"), where, starved=starved)
    if "No User class found" in log:
        return NoRun(
            f"Locust found no user class in {LOCUSTFILE}\nwanted: `class InferenceUser(FastHttpUser)`, not abstract",
            LOCUSTFILE,
        )
    if where and raised:
        stub = raised[-1].startswith("NotImplementedError")
        when = "" if plan.pace_seconds else " with LOAD_PACE_SECONDS=0"
        words = (
            raised[-1].removeprefix("NotImplementedError: ") if stub else f"Locust cannot run it{when}: {raised[-1]}"
        )
        return NoRun(words if stub else f"{words}\nwanted: a locustfile that can be imported", where, stub=stub)
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "it printed nothing")
    return NoRun(f"Locust ended with exit code {code}: {last.strip()[:200]}\nwanted: a load test that runs", where)
