"""A command in a process group of its own, behind its guard: what it prints, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

import psutil

KEPT_BYTES, KEPT_LINES = 65536, 200
GONE_SECONDS = 5.0

_GUARD = Path(__file__).with_name("supervisor.py")
_WORKER_DIED = re.compile(rb"Child process \[\d+\] died")
_NO_LINE = re.compile(rb"(?!)")
_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.1
if sys.platform == "win32":
    _FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _FLAGS = 0


class Process(Protocol):
    """A process that leads a group, or that stands before one: the guard."""

    pid: int

    @property
    def stdout(self) -> IO[bytes] | None:
        """What it and its children print."""

    def poll(self) -> int | None:
        """None while it runs, then its exit code: -N for signal N."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""

    def ask_to_end(self) -> None:
        """Send SIGTERM to the main process. Its group is killed if it takes longer than it has."""

    def kill_group(self) -> None:
        """Kill the group."""


class Guarded(subprocess.Popen[bytes]):
    """A command behind its guard."""

    def ask_to_end(self) -> None:
        """Tell the guard, which kills the group after the seconds that it was given."""
        assert self.stdin is not None
        with contextlib.suppress(OSError):
            self.stdin.write(b".")

    def kill_group(self) -> None:
        """Have the guard kill the group."""
        assert self.stdin is not None
        self.stdin.close()


def start(command: Sequence[str], env: dict[str, str], cwd: Path, stop_seconds: float) -> Guarded:
    """Start it; its guard takes a byte on standard input as the order to end, and kills the group at its end."""
    return Guarded(
        [sys.executable, "-I", "-S", str(_GUARD), str(stop_seconds), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env=env,
        cwd=cwd,
        # The guard must not get the terminal's Ctrl-C: it stops the server when the body has ended.
        start_new_session=True,
        creationflags=_FLAGS,
    )


def run_guarded(
    command: Sequence[str],
    env: dict[str, str],
    cwd: Path,
    seconds: float,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[int | None, str]:
    """Run a command with all its processes to its end. Gives its exit code, and the end of what it printed.

    They are killed after so many seconds, or once `stop()` is true: the exit code is None then. They die with this
    process, too.
    """
    process = start(command, env, cwd, stop_seconds=1)
    tail = Tail(process.stdout)
    code: int | None = None
    deadline = time.monotonic() + seconds
    try:
        while code is None and time.monotonic() < deadline and not stop():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_LOOK_SECONDS)
    finally:
        process.kill_group()
        process.wait(GONE_SECONDS)
        tail.thread.join(GONE_SECONDS)
    return code, tail.kept.decode(errors="replace")


class Tail:
    """Reads a program's output on a thread, so that it never blocks, and keeps only the end of it."""

    def __init__(self, output: IO[bytes] | None, port_line: re.Pattern[bytes] = _NO_LINE) -> None:
        self.port: int | None = None
        self.worker_deaths = 0
        self.kept = b""
        self._port_line = port_line
        self.thread = threading.Thread(target=self._read, args=(output,), daemon=True)
        self.thread.start()

    def _read(self, output: IO[bytes] | None) -> None:
        assert output is not None
        begun = b""
        with output as pipe:
            while chunk := os.read(pipe.fileno(), KEPT_BYTES):
                self.kept = (self.kept + chunk)[-KEPT_BYTES:]
                whole, _, begun = (begun[-KEPT_BYTES:] + chunk).rpartition(b"\n")
                self.worker_deaths += len(_WORKER_DIED.findall(whole))
                if self.port is None and (found := self._port_line.search(whole)):
                    self.port = int(found[1])

    def text(self) -> str:
        """The last lines."""
        return "\n".join(self.kept.decode(errors="replace").splitlines()[-KEPT_LINES:])


def descendants(pid: int) -> set[psutil.Process]:
    """All processes that a process has started, and those that they have; none of one that has ended."""
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return set()


def leave_nothing(process: Process, family: set[psutil.Process]) -> None:
    """Kill the server's group, then whatever of the family has left the group."""
    process.kill_group()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GONE_SECONDS)
    if process.poll() is None:
        end_tree(process.pid)
        process.wait(GONE_SECONDS)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    deadline = time.monotonic() + GONE_SECONDS
    while any(map(_runs, family)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def end_tree(pid: int) -> None:
    """Kill a process, its group and its descendants; those in other sessions are found only while it still runs."""
    for child in descendants(pid):
        with contextlib.suppress(psutil.Error):
            child.kill()
    if not hasattr(os, "killpg"):
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()
        return
    try:
        os.killpg(pid, signal.SIGKILL)  # a group exists as long as one process is in it
    except ProcessLookupError:  # all of it has ended; or it does not lead a group yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _runs(process: psutil.Process) -> bool:
    try:
        runs: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return runs
