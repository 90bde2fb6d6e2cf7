"""Work in a process of its own, seen from outside; what a learner's code can do there is in test_broken_code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.grading import isolation
from checks.harness.grading.isolation import Ending, Send, Watchdog
from checks.harness.grading.runner import computes_for_ever
from checks.harness.judge.start import can_fork
from tests.waiting import ended, finished, until

pytestmark = pytest.mark.skipif(not can_fork(), reason="there is no safe fork here")


def run(work: Callable[[Send], None], tmp_path: Path, seconds: float = 20) -> Ending:
    """Run in a fork, with nothing to prepare."""
    return isolation.forked(
        work, seconds, prepare=lambda: None, echo=False, stacks=tmp_path / "stacks", tick=lambda: None
    )


def test_the_payload_arrives_whole(tmp_path: Path) -> None:
    """More than a pipe holds comes through, and the output beside it."""

    def work(send: Send) -> None:
        os.write(1, b"said\n")
        send(b"x" * 1_000_000)

    ending = run(work, tmp_path)

    assert len(ending.payload) == 1_000_000
    assert "said" in ending.output


def test_nothing_of_the_parent_runs_twice(tmp_path: Path) -> None:
    """What was registered to happen at the end of the parent does not happen in the child."""
    program = (
        "import atexit, sys, pathlib; from checks.harness.grading import isolation\n"
        "atexit.register(print, 'the end')\n"
        "print('buffered', end=' ')\n"
        "ending = isolation.forked(lambda send: send(b'ok'), 20, prepare=lambda: None, echo=False,\n"
        "    stacks=pathlib.Path(sys.argv[1]), tick=lambda: None)\n"
        "print(ending.payload, len(ending.output))\n"
    )
    said = finished([sys.executable, "-c", program, str(tmp_path / "s")])

    assert said.stdout == "buffered b'ok' 0\nthe end\n"


def test_a_process_that_ends_itself_has_sent_nothing(tmp_path: Path) -> None:
    """Its exit code and its last words are what is left."""

    def work(send: Send) -> None:
        os.write(1, b"last words")
        os._exit(7)

    ending = run(work, tmp_path)

    assert (ending.payload, ending.exit_code) == (b"", 7)
    assert "last words" in ending.output


def test_the_deadline_ends_it_from_outside(tmp_path: Path) -> None:
    """A process that sends nothing is ended after its deadline and the time its own watchdog has."""

    def work(send: Send) -> None:
        time.sleep(600)
        send(b"its own end")

    assert run(work, tmp_path, seconds=0.1).payload == b""


def test_the_watchdog_speaks_at_the_deadline(tmp_path: Path) -> None:
    """It says what was not done in time; a nearer deadline for a part of the work comes first."""

    def work(send: Send) -> None:
        watchdog = Watchdog(50, tmp_path / "stacks", lambda what, starved: send(f"{what} {starved}".encode()))
        with watchdog.within(0.2, "finish this part"):
            time.sleep(60)

    ending = run(work, tmp_path)

    assert ending.payload.startswith(b"finish this part")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_parent_is_the_end_of_the_work(number: int, tmp_path: Path) -> None:
    """However the parent goes, its isolated work and the processes of that go too."""
    program = (
        "import os, signal, sys, time, pathlib, subprocess; from checks.harness.grading import isolation\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored\n"
        "def work(send):\n"
        "    other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    pathlib.Path(sys.argv[1], 'pids').write_text(f'{os.getpid()} {other.pid}\\n')\n"
        "    time.sleep(600)\n"
        "isolation.forked(work, 600, prepare=lambda: None, echo=False, stacks=pathlib.Path(sys.argv[1], 's'),\n"
        "    tick=lambda: None)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    pids = tmp_path / "pids"
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the work to start")
    parent.send_signal(number)
    ended(parent)
    left = [int(pid) for pid in pids.read_text().split()]
    until(lambda: not any(map(psutil.pid_exists, left)), f"{left} to be gone")

    assert parent.returncode != 0


def test_a_payload_is_bounded(tmp_path: Path) -> None:
    """A process that would fill the judge's memory is heard to its limit, and no further."""
    ending = run(lambda send: send(b"x" * 50_000_000), tmp_path)

    assert isolation.PAYLOAD_MOST <= len(ending.payload) <= isolation.PAYLOAD_MOST + 65536


@pytest.mark.skipif(sys.platform != "linux", reason="orphans can be adopted on Linux only")
def test_nothing_outlives_a_checkpoint(tmp_path: Path) -> None:
    """A process that left session and family is found and ended, before the next line is written."""
    program = (
        "import os, pathlib, subprocess, sys, time\n"
        "from checks.harness.grading import isolation\n"
        "isolation.adopt_orphans()\n"
        "code = 'import os, time; os.fork() and os._exit(0); os.setsid(); '\n"
        "code += 'print(os.getpid(), flush=True); time.sleep(60)'\n"
        "started = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)\n"
        "pid = int(started.stdout.readline())\n"
        "started.wait()\n"
        "isolation.end_descendants()\n"
        "print(pathlib.Path(f'/proc/{pid}').exists())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(("computed", "for_ever"), [(0.5, False), (9.0, False), (11.0, True), (29.0, True)])
def test_a_process_that_has_computed_for_long_was_not_starved(computed: float, for_ever: bool) -> None:
    """A right answer computes for a small part of its deadline, on a busy machine as well."""
    assert for_ever == computes_for_ever(computed, 30)
