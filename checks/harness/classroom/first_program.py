"""The first program of a run in its cell, `python -m checks.harness.classroom.first_program`; it reads one order.

It runs pytest as its child until that ends or its time is over, ends whatever was started, and only then reads the
results and says them on standard output, as one JSON object. It lives no longer than who started it: at the end of
standard input everything is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from checks.harness import ROOT
from checks.harness.grading.isolation import adopt_orphans, end_descendants
from checks.harness.walls.wall import Limits

MOST_RESULTS = 5_000_000
"""Bytes of results that are read: those of all checkpoints have less than a million."""
MOST_PRINTED = 20_000

_PR_SET_DUMPABLE = 4
_RESULTS = "results.json"
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Order:
    """What to run: pytest's arguments, the seconds it has, where its results go, and whether processes are counted."""

    arguments: list[str]
    seconds: float
    scratch: str
    count_processes: bool

    def command(self) -> list[str]:
        """The command that obeys this order."""
        return [sys.executable, "-m", "checks.harness.classroom.first_program"]

    def line(self) -> bytes:
        """The order as the line that the command reads first."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Report:
    """What became of it: pytest's exit code (None: its time was over), its results as they were, its last words."""

    exit_code: int | None
    results: str
    printed: str


def main() -> None:
    """Obey the order on standard input."""
    _hide()
    adopt_orphans()
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    Limits().apply(count_processes=order.count_processes)
    path = Path(order.scratch, _RESULTS)
    printed = bytearray()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *order.arguments, f"--results={path}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_keep, args=(process, printed), daemon=True)
    reader.start()
    code = _wait(process, order.seconds)
    end_descendants()
    reader.join(1)
    report = Report(code, _read(path), printed.decode(errors="replace"))
    sys.stdout.write(json.dumps(asdict(report)))
    sys.stdout.flush()
    os._exit(0)


def _hide() -> None:
    """Let no process of the same user look into this one: not at its memory, not at its open files."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _end_with_the_caller() -> None:
    while os.read(0, 1):
        pass
    end_descendants()
    os._exit(1)


def _keep(process: subprocess.Popen[bytes], printed: bytearray) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        while chunk := os.read(process.stdout.fileno(), 65536):
            printed += chunk
            del printed[:-MOST_PRINTED]


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code, or None after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_SECONDS)
    return None


def _read(path: Path) -> str:
    """The results, if they are a file and not a link to another; empty where there are none."""
    try:
        end = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return ""
    with os.fdopen(end, "rb") as file:
        try:
            data = file.read(MOST_RESULTS + 1)
        except OSError:
            return ""
    return data.decode(errors="replace") if len(data) <= MOST_RESULTS else ""


if __name__ == "__main__":
    main()
