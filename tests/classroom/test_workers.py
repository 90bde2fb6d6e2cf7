"""A class graded by the workers of a dask scheduler: a real one, with two workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.classroom.workers import NoWorkers, workers
from tests.answers import ANSWERS
from tests.classroom.test_class import CELL, runs_in, table
from tests.guide.test_commands import lab
from tests.waiting import ended, until

distributed = pytest.importorskip("distributed", reason="not tried with a scheduler: `uv sync --group cluster`")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler with two workers, each in a process of its own with one thread."""
    address, quiet = tmp_path / "scheduler.json", subprocess.DEVNULL
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads=1", "--no-dashboard", "--nworkers=1"]
    with ExitStack() as running:

        def begin(command: list[str]) -> None:
            process = running.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet))
            running.callback(_end_all_of, process)

        begin([*start, f"--scheduler-file={address}"])
        until(address.exists, "the scheduler")
        for number in range(2):
            begin([*worker, f"--scheduler-file={address}", f"--local-directory={tmp_path / str(number)}"])
        with distributed.Client(scheduler_file=str(address), set_as_default=False) as client:
            until(lambda: len(client.scheduler_info()["workers"]) == 2, "two workers")
            at = str(client.scheduler.address)
        yield at


def _end_all_of(process: subprocess.Popen[bytes]) -> None:
    for one in psutil.Process(process.pid).children(recursive=True):
        one.kill()
    process.kill()
    process.wait()


def a_class(folder: Path) -> None:
    """Right, wrong, a stub, and one that cannot be judged."""
    spared = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "solutions", folder / "right", ignore=spared)
    shutil.copytree(ROOT / "lab", folder / "stub" / "lab", ignore=spared)
    ANSWERS["1: health without the pid"].write(folder / "wrong")
    (folder / "no-lab" / "src").mkdir(parents=True)


@pytest.mark.exhaustive
@pytest.mark.cost(20)
def test_a_class_is_graded_by_workers(scheduler: str, tmp_path: Path) -> None:
    """The grades are those that it gets here, and nothing is left on the workers."""
    a_class(tmp_path / "class")
    out = tmp_path / "grades"

    done = lab("grade", tmp_path / "class", "--out", out, "--exercise", "1", "--cell", CELL, "--scheduler", scheduler)

    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(out)
    assert {name: int(row["points"]) for name, row in rows.items() if not row["unsettled"]} == {
        "right": 20, "stub": 0, "wrong": 19,
    }  # fmt: skip
    assert rows["no-lab"]["problem"] == "it holds no folder `lab`"
    assert sorted(path.name for path in out.iterdir()) == sorted([*rows, "grades.csv", "summary.html"])
    assert runs_in(out) == []


@pytest.mark.exhaustive
@pytest.mark.cost(10)
def test_ctrl_c_ends_what_runs_on_workers(scheduler: str, tmp_path: Path) -> None:
    """The runs there end as well, because their folders are gone; the workers stay for the next class."""
    folder, out = tmp_path / "class", tmp_path / "grades"
    lab_of = shutil.copytree(ROOT / "lab", folder / "ada" / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    (lab_of / "service.py").write_text("import time\nwhile True:\n    time.sleep(1)\n")
    command = [str(Path(sys.prefix, "bin", "lab")), "grade", str(folder), "--out", str(out), "--exercise=1"]
    with subprocess.Popen([*command, f"--cell={CELL}", f"--scheduler={scheduler}"]) as process:
        until(lambda: runs_in(out / ".work"), "a run on a worker")
        process.send_signal(signal.SIGINT)
        assert ended(process) == 130

    until(lambda: not runs_in(out / ".work"), "the end of the run on the worker")
    assert not (out / ".work").exists()
    with workers(scheduler, CELL, [folder]) as executor:
        assert executor.submit(os.getpid).result() != os.getpid()


@pytest.mark.exhaustive
@pytest.mark.cost(4)
def test_what_a_worker_lacks_is_said(scheduler: str, tmp_path: Path) -> None:
    """No scheduler, no cell, no folder: a sentence, and nothing is graded."""
    with pytest.raises(NoWorkers, match=r"has no .*nowhere"), workers(scheduler, "plain", [tmp_path / "nowhere"]):
        pass
    with pytest.raises(NoWorkers, match="no dask scheduler answers at"), workers("nonsense://x", "plain", []):
        pass


def test_without_the_package_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NoWorkers, match="uv sync --group cluster"), workers("tcp://127.0.0.1:1", "plain", []):
        pass
