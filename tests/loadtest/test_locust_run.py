"""Load tests: what a run leaves behind, in which order, and what keeps it from running."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.errors import Failure, Inconclusive, LearnerError, StubError
from checks.harness.judge.start import Zygote
from checks.harness.loadtest import locust_run as loadtest
from checks.harness.loadtest.locate import require_written, where_part
from checks.harness.loadtest.locust_process import Ended
from checks.harness.loadtest.locust_run import LoadTests, NoRun
from checks.harness.loadtest.recording import Plan
from checks.harness.loadtest.targets import Answer, Service, Target
from checks.harness.machine import FairClock
from checks.harness.workspace import Workspace, open_workspace
from tests.waiting import finished

PLAN = Plan("a small one", Service((Answer(0.01),)), users=2)


class Idle(FairClock):
    """The clock of a machine with nothing else to do."""

    busy = False


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The solution's."""
    return open_workspace(ROOT, ROOT / "solutions", tmp_path / "tree")


@pytest.fixture
def load_tests(workspace: Workspace, tmp_path: Path) -> Iterator[LoadTests]:
    """A session without results."""
    (tmp_path / "shared").mkdir()
    made = LoadTests(workspace, tmp_path / "shared")
    yield made
    made.finish(passed=True)


def test_a_run_is_recorded_and_not_repeated(
    load_tests: LoadTests, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Target and Locust agree; the same plan is then answered from what was kept, until that is forgotten."""
    [run] = load_tests(PLAN)
    monkeypatch.setattr(loadtest, "_locust", lambda *_: [Ended(1, "not again")])
    [again] = load_tests(PLAN)

    assert 0 == run.exit_code
    assert len(run.requests) == len(run.arrivals) > 0
    assert {request.number for request in run.requests} == {arrival.number for arrival in run.arrivals}
    assert "StepLoad" == run.shape
    assert run == again
    load_tests.forget()
    with pytest.raises(LearnerError, match="not again"):
        load_tests(PLAN)


@pytest.mark.cost(8)
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


def test_where_no_process_can_be_forked_there_is_no_verdict(
    load_tests: LoadTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the learner's."""
    monkeypatch.setattr(Zygote, "fork", lambda zygote, *_: zygote.end())

    with pytest.raises(Inconclusive, match="no process of Locust could be started"):
        load_tests(PLAN)


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
    said = loadtest._no_run(PLAN, Ended(code, log.format(tree=workspace.tree)), idle, workspace)

    assert words in f"{said.failure.seen}\n"
    assert said.failure.wanted
    assert ("line 3" in log) == ((said.failure.where or "").startswith("loadtests/locustfile.py:3"))


def test_a_stub_at_import_is_not_started(workspace: Workspace) -> None:
    """It says what it waits for."""
    log = f'File "{workspace.tree}/loadtests/locustfile.py", line 3, in x\nNotImplementedError: 3.1: the task\n'

    said = loadtest._no_run(PLAN, Ended(1, log), Target(PLAN.service), workspace)

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
    said = loadtest._no_run(PLAN, Ended(None, ""), Target(PLAN.service, lags=[(0.0, 0.5)] * 20), workspace)

    with pytest.raises(Inconclusive):
        loadtest._usable(said)


@pytest.mark.parametrize(
    ("part", "line"),
    [("task", "def predict"), ("wait_time", "def wait_time"), ("tick", "def tick"), ("gate", "def slo_gate")],
)
def test_the_parts_of_a_locustfile_are_found_without_importing_it(part: str, line: str, workspace: Workspace) -> None:
    """By what makes them what they are, not by their names where those are free."""
    assert line in (where_part(workspace, part) or "")
