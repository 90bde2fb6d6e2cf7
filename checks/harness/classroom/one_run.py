"""The run of one submission behind a wall: pytest in a process tree and a folder of its own, and nothing of it left."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from checks.harness import ROOT
from checks.harness.classroom.first_program import Order, Report
from checks.harness.containers.build_context import GIVEN
from checks.harness.grading.markers import path_of
from checks.harness.processes.process_group import descendants, end_tree
from checks.harness.walls.wall import Plain, Room

MOST_MEMORY_MB = 4096
"""Memory of all processes of one run together; pytest, Locust and four workers take less than a fourth of it."""
MOST_SAID = 64_000_000
GRACE = 20.0
"""Seconds beyond its time after which a run that says nothing is killed from outside."""

_LOOK_SECONDS = 1.0
_READ = ("checks", "lab", "loadtests", "conftest.py", *GIVEN)
"""What of the lab a run reads: no solutions, no tests."""


class NoReport(Exception):
    """The run ended without saying what became of it: one sentence."""


def run_pytest(
    wall: Plain, tree: Path, exercises: Sequence[int], folder: Path, *,
    number: int, seconds: float, only: Sequence[str] = (), seed: int | None = None,
) -> Report:  # fmt: skip
    """Judge the copy `tree` of a submission by those exercises, or of them `only` the checkpoints with these ids.

    `folder` is empty, and for this run alone, as is the one above it; `number` tells it from those beside it. When this
    returns, nothing that was started runs any more. Raises `NoReport`.
    """
    arguments = [
        *(path_of(exercise) for exercise in exercises),
        *(f"--rootdir={ROOT}", f"--workspace={tree}", "-p", "no:cacheprovider", "--color=no"),
        *(["-k", " or ".join(only)] if only else []),
        *([f"--seed={seed}"] if seed is not None else []),
    ]
    room = Room([*(ROOT / name for name in _READ), tree], folder, number)
    order = Order(arguments, seconds, str(wall.scratch(room)), wall.counts_processes)
    behind = wall.around(order.command(), room, {"PYTHONPATH": str(ROOT)})
    process = subprocess.Popen(
        behind.arguments,
        cwd=ROOT,
        env=behind.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    readers = [_Reader(process, name) for name in ("stdout", "stderr")]
    why = ""
    try:
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.write(order.line())
            process.stdin.flush()
        why = _watch(process, seconds + GRACE, folder)
    finally:
        # Behind a wall nothing can be left of it; without one, all that is found in its tree is killed.
        end_tree(process.pid)
        process.wait()
        wall.end(room)
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
    said, errors = (reader.all() for reader in readers)
    if not why:
        with contextlib.suppress(ValueError, TypeError):
            return Report(**json.loads(said))
        last = (errors.decode(errors="replace").strip().splitlines() or [""])[-1]
        why = f"its run was ended from inside, or could not begin: exit code {process.returncode} {last}".strip()
    raise NoReport(why)


class _Reader:
    """Reads one output of a process, on a thread of its own."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._pipe = getattr(process, name)
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while (chunk := self._pipe.read1(65536)) and len(self._data) <= MOST_SAID:
                self._data += chunk

    def all(self) -> bytes:
        """All of it, once the process has ended."""
        self._thread.join(5)
        return bytes(self._data)


def _watch(process: subprocess.Popen[bytes], seconds: float, folder: Path) -> str:
    """Wait for the end; in a sentence why it did not come, or why it was not waited for.

    Whoever ends the grading of a class, on whatever machine, removes the folders of its runs.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_SECONDS)  # subprocess itself looks up to twenty times a second
            return ""
        if not folder.exists():
            return "the grading of its class was ended"
        if (used := _memory_mb(process.pid)) > MOST_MEMORY_MB:
            return f"it took {used:,} MB of memory, and a run may take {MOST_MEMORY_MB:,}"
    return f"it did not end within {seconds:.0f} s"


def _memory_mb(pid: int) -> int:
    """What all processes of a run have for themselves."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for one in (psutil.Process(pid), *descendants(pid)):
            with contextlib.suppress(psutil.Error):
                told = one.memory_info()
                total += max(0, told.rss - getattr(told, "shared", 0))
    return total // 2**20
