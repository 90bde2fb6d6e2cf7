"""The process that starts cells: when it begins, what it passes on, and that it ends."""

from __future__ import annotations

import os
import signal

import pytest

from checks.harness import ROOT
from checks.harness.judge.start import zygote_of_cells
from checks.harness.options import _chosen, _in_cells
from tests.exercises import EXERCISES
from tests.judge.conftest import Learner, runs
from tests.waiting import until


@pytest.mark.parametrize("number", EXERCISES)
def test_the_markers_say_early_which_checkpoints_need_it(number: int) -> None:
    """Read from the text of a file, before anything is collected; and which of them run a service."""
    exercise = EXERCISES[number]
    cells = [one for one in exercise.checkpoints if one.in_cell]

    assert {one.id: "service" in one.fixtures for one in cells} == _in_cells(ROOT / exercise.path)


@pytest.mark.parametrize(
    ("keyword", "chosen"),
    [("", {"1.3", "1.4"}), ("1.3", {"1.3"}), ("1.3 or 1.9", {"1.3"}), ("not 1.3", {"1.3", "1.4"}), ("health", set())],
)
def test_a_keyword_says_early_what_may_run(keyword: str, chosen: set[str]) -> None:
    """Where it names a checkpoint that does not run, any of the others may need a service."""
    assert chosen == _chosen(keyword, ["1.3", "1.4"])


def test_settings_of_a_shell_do_not_reach_a_cell(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell happens to export changes no verdict."""
    monkeypatch.setenv("LAB_THREAD_POOL_SIZE", "4000")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    learner.zygote = zygote_of_cells()
    learner.ends.callback(learner.zygote.end)
    thing = learner.wrote("import os\ndef has(name):\n    return name in os.environ\n")

    assert (False, True) == (thing.has("LAB_THREAD_POOL_SIZE"), thing.has("SOMETHING_ELSE"))


def test_where_the_zygote_has_ended_there_is_no_cell_of_its() -> None:
    """The caller then starts an interpreter of its own."""
    made = zygote_of_cells()
    os.kill(made.pid, 9)
    until(lambda: made.fork() is None, "a refusal")
    made.end()


def test_a_zygote_that_was_stopped_goes_on() -> None:
    """A learner's code can stop its parent, and the next checkpoint still has its cell."""
    made = zygote_of_cells()
    os.kill(made.pid, signal.SIGSTOP)
    process = made.fork()

    assert process
    assert runs(process.pid)
    made.end()


def test_a_zygote_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped again and again: the judge goes on without it."""
    made = zygote_of_cells()
    monkeypatch.setattr("checks.harness.judge.start.signal.SIGCONT", signal.SIGSTOP)

    assert made.fork(seconds=0.3) is None
    assert -signal.SIGKILL == made._process.wait(5)
    made.end()


def test_the_zygote_ends_with_its_cells(learner: Learner) -> None:
    """A run that is over leaves nothing behind, whatever runs in its cells."""
    made = zygote_of_cells()
    process = made.fork()
    assert process
    made.end()

    until(lambda: not runs(process.pid), "the end of the cell")
    assert not runs(made.pid)
