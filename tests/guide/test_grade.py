"""`lab grade` as a command: one line for each submission, and a sentence where nothing can be graded."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.walls.choice import NAMES
from tests.guide.opened import LAB
from tests.guide.test_commands import here, lab
from tests.waiting import ended, until


def a_class(folder: Path) -> Path:
    """A stub, and a folder that is no submission."""
    shutil.copytree(ROOT / "lab", folder / "stub" / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "other" / "src").mkdir(parents=True)
    return folder


def a_family(pid: int) -> list[psutil.Process]:
    """All that a command has started, once a checkpoint is among it; empty before."""
    found = psutil.Process(pid).children(recursive=True)
    return found if len(found) >= 3 else []


def test_a_class_is_graded_with_one_command(tmp_path: Path) -> None:
    """The plain cell has to be asked for; a line for each, and where the pages are."""
    folder, out = a_class(tmp_path / "class"), tmp_path / "grades"

    done = lab("grade", folder, "--out", out, "--exercise", "1", "--cell", "plain", "--jobs", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "  0/20  other: it holds no folder `lab`" in done.stdout
    assert "  0/20  stub" in done.stdout
    assert f"2 submissions, plain cell: {out / 'summary.html'}" in done.stdout
    assert "no verdict: other, all checkpoints" in done.stdout
    with (out / "grades.csv").open(newline="") as file:
        assert [row["1.1 verdict"] for row in csv.DictReader(file)] == ["not_run", "not_started"]


@pytest.mark.exhaustive
def test_one_submission_and_some_checkpoints(tmp_path: Path) -> None:
    """`--one` takes the folder for a submission; `--checkpoint` leaves all others out of the grade."""
    folder, out = a_class(tmp_path / "class") / "stub", tmp_path / "grades"

    done = lab("grade", folder, "--one", "--out", out, "--checkpoint", "1.8", "--cell", "plain", "--jobs", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "  0/2  stub" in done.stdout
    with (out / "grades.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [name for name in row if name.endswith(" verdict")] == ["1.8 verdict"]
    assert (row["max_points"], row["1.8 verdict"]) == ("2", "not_started")


def test_ctrl_c_ends_what_runs(tmp_path: Path) -> None:
    """The run of a submission that never ends is ended with the command, and no folder of work is left."""
    folder, out = a_class(tmp_path / "class"), tmp_path / "grades"
    service = folder / "stub" / "lab" / "service.py"
    service.write_text("import time\nwhile True:\n    time.sleep(1)\n")
    command = [LAB, "grade", str(folder), "--out", str(out), "--exercise", "1", "--cell", "plain"]
    pipe = subprocess.PIPE
    # A shell starts what it runs in the background with SIGINT ignored, and these tests may run there.
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear) as process:
        family = until(lambda: a_family(process.pid), "a checkpoint")
        process.send_signal(signal.SIGINT)
        code = ended(process)
        assert process.stderr is not None
        said = process.stderr.read()

    assert code == 130
    assert "interrupted: what is graded is kept" in said
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family), "their end")
    assert not (out / ".work").exists()


def test_what_cannot_be_graded_is_one_sentence(tmp_path: Path) -> None:
    """No class, an exercise or a cell that is not there."""
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        ([tmp_path / "empty"], "holds no submission"),
        ([tmp_path / "nowhere"], "is neither a folder"),
        ([tmp_path / "nowhere", "--one"], "is neither a folder nor a zip"),
        ([tmp_path, "--exercise", "77"], "there is no exercise 77"),
        ([tmp_path, "--exercise", "2", "--checkpoint", "1.4"], "there is no checkpoint 1.4"),
        ([tmp_path, "--cell", "steel"], "one of auto, bwrap, docker, uid, plain"),
    ):
        done = here("grade", *arguments, "--out", tmp_path / "out", "--jobs", "1")
        assert (2, SystemExit) == (done.exit_code, type(done.exception))
        assert says in done.stderr


def test_doctor_knows_the_cells() -> None:
    """Each of them, with what it holds off or what is missing."""
    said = lab("doctor").stdout

    for name in NAMES:
        assert f"{name} cell" in said
