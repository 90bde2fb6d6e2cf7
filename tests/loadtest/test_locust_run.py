"""Locust in processes of its own: what it leaves behind, its environment, and that no process stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.errors import Failure, Inconclusive, LearnerError, StubError
from checks.harness.loadtest import locust_run as loadtest
from checks.harness.loadtest.locate import require_written, where_part
from checks.harness.loadtest.locust_run import LoadTests, NoRun, locust_command, locust_environment
from checks.harness.loadtest.recording import Plan
from checks.harness.loadtest.targets import Answer, Service, Target, target
from checks.harness.machine import FairClock
from checks.harness.processes.process_group import run_guarded
from checks.harness.processes.servers import free_port
from checks.harness.workspace import Workspace, open_workspace
from tests.waiting import SLOWER, ended, finished, until

PLAN = Plan("a small one", Service((Answer(0.01),)), users=2)

COUNTER = """
import os, pathlib
from locust import events

requests = 0

@events.request.add_listener
def count(**_):
    global requests
    requests += 1

@events.quit.add_listener
def write(exit_code, **_):
    pathlib.Path(__file__).with_name(f"{os.getpid()}.count").write_text(f"{requests} {exit_code}")
"""


class Idle(FairClock):
    """The clock of a machine with nothing else to do."""

    busy = False


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The solution's."""
    return open_workspace(ROOT, ROOT / "solutions", tmp_path / "tree")


@pytest.fixture
def load_tests(workspace: Workspace, tmp_path: Path) -> LoadTests:
    """A session without results."""
    (tmp_path / "shared").mkdir()
    return LoadTests(workspace, tmp_path / "shared")


def test_a_run_is_recorded_and_not_repeated(
    load_tests: LoadTests, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Target and Locust agree; the same plan is then answered from what was kept, until that is forgotten."""
    [run] = load_tests(PLAN)
    monkeypatch.setattr(loadtest, "_locust", lambda *_: [(1, "not again")])
    [again] = load_tests(PLAN)

    assert 0 == run.exit_code
    assert len(run.requests) == len(run.arrivals) > 0
    assert {request.number for request in run.requests} == {arrival.number for arrival in run.arrivals}
    assert "StepLoad" == run.shape
    assert run == again
    load_tests.forget()
    with pytest.raises(LearnerError, match="not again"):
        load_tests(PLAN)


def test_load_tests_of_later_checkpoints_run_in_the_same_seconds(workspace: Workspace, tmp_path: Path) -> None:
    """What is ahead is kept for later once the checkpoint has passed, and dropped when it has failed."""
    ahead = Plan("a later one", Service((Answer(0.02),)), users=1, step_seconds=3)
    (passing, failing) = (tmp_path / "passing", tmp_path / "failing")
    for folder, passed in ((passing, True), (failing, False)):
        folder.mkdir()
        tests = LoadTests(workspace, folder, [ahead])
        tests(PLAN)
        tests.finish(passed=passed)

    assert 2 == len(list(passing.glob("*.run")))
    assert 1 == len(list(failing.glob("*.run")))


@pytest.mark.exhaustive
def test_a_distributed_run_has_an_exit_code_for_each_process(load_tests: LoadTests) -> None:
    """The master's comes first; the requests are those of its worker."""
    [run] = load_tests(Plan("two processes", Service((Answer(0.01),)), users=2, step_seconds=4, workers=1))

    assert (0, 0) == run.exit_codes
    assert (True, False) == run.decided
    assert len(run.requests) == len(run.arrivals) > 0
    assert [2, None] == [run.ticks[0].answer and run.ticks[0].answer[0], run.ticks[-1].answer]


@pytest.mark.parametrize(
    ("part", "words"),
    [("task", "3.1"), ("wait_time", "3.3"), ("tick", "3.4"), ("gate", "3.5"), ("find_breaking_point", "3.7")],
)
def test_a_stub_is_found_without_a_load_test(part: str, words: str, workspace: Workspace, tmp_path: Path) -> None:
    """By its text; the solution has none."""
    stubs = open_workspace(ROOT, None, tmp_path / "stubs")

    with pytest.raises(StubError, match=words):
        require_written(stubs, [part])
    require_written(workspace, [part])


def test_locust_stays_out_of_the_judge() -> None:
    """It would patch sockets and sleeps of everything that comes after it."""
    code = "import sys, checks.harness.plugin; print(sorted({'locust', 'gevent'} & set(sys.modules)))"
    done = finished([sys.executable, "-c", code])

    assert "[]" == done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (1, "INFO Starting\nERROR/locust.main: No User class found!\n", "found no user class"),
        (1, 'File "{tree}/loadtests/locustfile.py", line 3, in <module>\nValueError: no\n', "run it: ValueError: no\n"),
        (1, 'File "{tree}/loadtests/locustfile.py", line 3\nSyntaxError: invalid syntax\n', "run it: SyntaxError"),
        (7, "some noise\n", "ended with exit code 7: some noise"),
        (0, "", "ended with exit code 0: it printed nothing"),
        (None, "", "did not end by itself, and was killed"),
    ],
)
def test_what_keeps_locust_from_running_is_one_line(
    code: int | None, log: str, words: str, workspace: Workspace
) -> None:
    """In words for a learner, with their own line where there is one."""
    idle = Target(PLAN.service, clock=Idle())
    said = loadtest._no_run(PLAN, code, log.format(tree=workspace.tree), idle, workspace)

    assert words in f"{said.failure.seen}\n"
    assert said.failure.wanted
    assert ("line 3" in log) == ((said.failure.where or "").startswith("loadtests/locustfile.py:3"))


def test_a_stub_at_import_is_not_started(workspace: Workspace) -> None:
    """It says what it waits for."""
    log = f'File "{workspace.tree}/loadtests/locustfile.py", line 3, in x\nNotImplementedError: 3.1: the task\n'

    said = loadtest._no_run(PLAN, 1, log, Target(PLAN.service), workspace)

    assert NoRun(Failure("3.1: the task", where=said.failure.where), stub=True) == said
    assert said.failure.where
    with pytest.raises(StubError):
        loadtest._usable(said)


def test_a_missing_locustfile_is_named(load_tests: LoadTests, workspace: Workspace) -> None:
    """No Locust can say it better."""
    (workspace.tree / "loadtests" / "locustfile.py").unlink()

    with pytest.raises(LearnerError, match=r"there is no loadtests/locustfile\.py"):
        load_tests(PLAN)


def test_a_starved_machine_is_not_the_learners_fault(workspace: Workspace) -> None:
    """Killed at the deadline, while the target, too, hardly got to run."""
    said = loadtest._no_run(PLAN, None, "", Target(PLAN.service, lags=[(0.0, 0.5)] * 20), workspace)

    with pytest.raises(Inconclusive):
        loadtest._usable(said)


def test_locust_that_does_not_end_is_killed_with_its_workers(tmp_path: Path) -> None:
    """Neither the process nor the workers it forked are left after the deadline."""
    endless = tmp_path / "endless.py"
    endless.write_text(
        "import os, pathlib\nfrom locust import User, constant, events, task\n"
        "class Endless(User):\n    wait_time = constant(0.1)\n    @task\n    def nothing(self): pass\n"
        "@events.test_start.add_listener\n"
        "def note(**_): pathlib.Path(__file__).with_name(f'{os.getpid()}.pid').touch()\n"
    )
    command = locust_command("--processes=2", "--host=http://127.0.0.1:9", locustfiles=[endless], cpu_seconds=60)
    for slower in SLOWER:
        code, log = run_guarded(command, locust_environment(tmp_path), tmp_path, seconds=8 * slower)
        pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
        if len(pids) >= 3:  # it came so far as to start its workers
            break

    assert code is None
    assert len(pids) >= 3, log
    until(lambda: not any(map(psutil.pid_exists, pids)), "the end of Locust and its workers")


@pytest.mark.exhaustive
def test_a_master_and_two_workers_are_one_load_test(workspace: Workspace, tmp_path: Path) -> None:
    """The master reports the sum of what its workers sent, and the target saw as much; the gate is the master's.

    Where other processes want the cores the master may end before a worker's last report: it is given longer.
    """
    for slower in SLOWER:
        counts, reported, arrived = _master_and_two_workers(workspace, tmp_path, 5 * slower)
        if sum(counts) == reported:
            break

    assert 0 < min(counts)
    assert sum(counts) == reported == arrived


def _master_and_two_workers(workspace: Workspace, tmp_path: Path, stop_seconds: int) -> tuple[list[int], int, int]:
    """How many requests each worker has sent, the master has reported, and have arrived."""
    counter, port = tmp_path / "counter.py", free_port()
    counter.write_text(COUNTER)
    files = [workspace.tree / "loadtests" / "locustfile.py", counter]
    env = locust_environment(workspace.tree) | {
        "LOAD_STEPS": "2",
        "LOAD_STEP_USERS": "4",
        "LOAD_STEP_SECONDS": "4",
        "LOAD_SLO_MS": "60000",
        "LOAD_DEADLINE_MS": "60000",
        "LOAD_PACE_SECONDS": "0.1",
    }
    with target(Service((Answer(0.01),))) as running, ExitStack() as processes:

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            command = locust_command(
                f"--host={running.url}", f"--stop-timeout={stop_seconds}", *arguments, locustfiles=files, cpu_seconds=60
            )
            process = processes.enter_context(
                subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.DEVNULL)
            )
            processes.callback(process.kill)
            return process

        report = tmp_path / "report"
        where = f"--master-bind-host=127.0.0.1 --master-bind-port={port}".split()
        master = start("--master", "--expect-workers=2", *where, f"--json-file={report}")
        workers = [start("--worker", f"--master-port={port}") for _ in range(2)]
        codes = [ended(process, 60) for process in (master, *workers)]
    counts = {int(path.stem): [*map(int, path.read_text().split())] for path in tmp_path.glob("*.count")}
    sent = [counts[worker.pid][0] for worker in workers]
    [row] = json.loads(report.with_suffix(".json").read_text())

    assert [0, 0, 0] == codes
    assert 0 == counts[master.pid][0]
    return sent, row["num_requests"], len(running.arrivals)


@pytest.mark.parametrize(
    ("part", "line"),
    [("task", "def predict"), ("wait_time", "def wait_time"), ("tick", "def tick"), ("gate", "def slo_gate")],
)
def test_the_parts_of_a_locustfile_are_found_without_importing_it(part: str, line: str, workspace: Workspace) -> None:
    """By what makes them what they are, not by their names where those are free."""
    assert line in (where_part(workspace, part) or "")


def test_what_a_shell_exports_does_not_reach_locust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings of Locust or of a load test made by hand must not change a verdict."""
    monkeypatch.setenv("LOAD_STEPS", "99")
    monkeypatch.setenv("LOCUST_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # compiling Locust at each start takes longer than a run

    assert not {"LOAD_STEPS", "LOCUST_HOST", "PYTHONDONTWRITEBYTECODE"} & set(locust_environment(tmp_path))
    assert os.environ["LOAD_STEPS"] == "99"
