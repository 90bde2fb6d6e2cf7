"""Starts processes for the learner's code: forked by a zygote in milliseconds, or a new interpreter."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import pytest

from checks.harness import ROOT
from checks.harness.cell.wire import Wire
from checks.harness.machine import FairClock
from checks.harness.processes.process_group import end_tree
from checks.harness.processes.theirs import OURS

_MAIN = """
import sys
from importlib import import_module
sys.path.insert(0, sys.argv[-1])
import_module(sys.argv[1]).main(sys.argv[2:])
"""
_CELLS = "checks.harness.cell.zygote"
_ENDED_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
"""How long the zygote may take to start a cell, in fair seconds: milliseconds, or a second while it imports."""
_LOOK_SECONDS = 0.1


def can_fork() -> bool:
    """Whether a fork is to be had and safe: macOS has one, but its system libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


class ExitCode(Protocol):
    """Waits so many seconds for the end of a process. Gives its exit code, once; -N for signal N, None before."""

    def __call__(self, seconds: float | None = _ENDED_SECONDS) -> int | None:
        """Give it."""


@dataclass(frozen=True, slots=True)
class Started:
    """A process."""

    pid: int
    wire: Wire
    exit_code: ExitCode


class Zygote:
    """A process that forks others, as `cell/forks.py` says. Its imports run while the caller goes on."""

    def __init__(self, module: str, *arguments: str, env: dict[str, str], cwd: Path | None = None) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                interpreter(module, "fork", str(theirs.fileno()), *arguments),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=env,
                cwd=cwd,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended: by itself, or because a process that it forked ended it."""
        return self._process.poll() is not None

    def fork(self, output: int = 1, seconds: float = _ANSWER_SECONDS, kind: bytes = b"c") -> Started | None:
        """A new process of that kind, whose output goes to that file descriptor.

        None where the zygote has ended, or does not answer within so many fair seconds: then it is killed. The process
        is no child of this process, and may stop the zygote, which is its parent.
        """
        (reader, theirs_to_write), (theirs_to_read, writer) = os.pipe(), os.pipe()
        ends, told = os.pipe()
        given = [theirs_to_read, theirs_to_write, output, told]
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)
            socket.send_fds(self._control, [kind], given)
        for end in (theirs_to_read, theirs_to_write, told):
            os.close(end)
        pid = _line(ends) if _answers(ends, seconds) else b""
        if not pid:
            end_tree(self.pid)
            for end in (reader, writer, ends):
                os.close(end)
            return None

        def exit_code(seconds: float | None = _ENDED_SECONDS) -> int | None:
            if not select.select([ends], [], [], seconds)[0]:
                return None
            code = _line(ends)
            return int(code) if code else -signal.SIGKILL  # unknown: the zygote has ended

        return Started(int(pid), Wire(reader, writer), exit_code)

    def fork_printing(self, seconds: float = _ANSWER_SECONDS, kind: bytes = b"c") -> tuple[Started, IO[bytes]] | None:
        """A new process as by `fork`, and where to read what it prints."""
        reader, writer = os.pipe()
        output = os.fdopen(reader, "rb", buffering=0)
        try:
            process = self.fork(writer, seconds, kind)
        finally:
            os.close(writer)
        if process is None:
            output.close()
            return None
        return process, output

    def end(self) -> None:
        """End it, and the processes that it has started."""
        self._control.close()
        end_tree(self._process.pid)
        self._process.wait()


ZYGOTE = pytest.StashKey[Zygote]()
"""Of a run: the process that starts its cells."""


def zygote_of_cells(*, service: bool = False) -> Zygote:
    """What forks cells, some of them for a `service`."""
    env = {name: value for name, value in os.environ.items() if not name.upper().startswith(OURS)}
    return Zygote(_CELLS, *(["service"] if service else []), env=env)


def begin(config: pytest.Config, *, service: bool) -> None:
    """Start the zygote of this run, unless there is one. It ends with the run."""
    if ZYGOTE not in config.stash:
        config.stash[ZYGOTE] = zygote_of_cells(service=service)
        config.add_cleanup(config.stash[ZYGOTE].end)


def started() -> Started:
    """A new interpreter with a cell in it: where no zygote is to be had."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(interpreter(_CELLS, "cell"), stdin=pipe, stdout=pipe, bufsize=0, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as writer, process.stdout as reader:
        wire = Wire(os.dup(reader.fileno()), os.dup(writer.fileno()))

    def exit_code(seconds: float | None = _ENDED_SECONDS) -> int | None:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    return Started(process.pid, wire, exit_code)


def interpreter(module: str, *arguments: str) -> list[str]:
    """The command that runs the `main` of a module of the lab, in a new interpreter that then finds the lab no more."""
    return [sys.executable, "-P", "-c", _MAIN, module, *arguments, str(ROOT)]


def _answers(end: int, seconds: float) -> bool:
    """Whether the zygote says anything in time, or has ended."""
    clock = FairClock()
    while clock.seconds() < seconds:
        if select.select([end], [], [], _LOOK_SECONDS)[0]:
            return True
    return False


def _line(end: int) -> bytes:
    """What one line says, without its end; empty where the other side has closed."""
    line = b""
    while (byte := os.read(end, 1)) not in (b"", b"\n"):
        line += byte
    return line if byte else b""
