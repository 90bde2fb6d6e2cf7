"""A server that the zygote of the cells has forked: its imports, most of the time that it takes to start, are done."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil

from checks.harness.cell.server_start import ASKED
from checks.harness.judge.start import Started, Zygote
from checks.harness.processes.process_group import Process, end_tree, start
from checks.harness.processes.servers import UVICORN


class Forked:
    """A process that the zygote has forked, as `server` wants it."""

    def __init__(self, process: Started, output: IO[bytes], stop_seconds: float) -> None:
        self.pid, self.stdout = process.pid, output
        self._process, self._stop_seconds = process, stop_seconds
        self._code: int | None = None
        self._known: psutil.Process | None
        try:
            self._known = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            self._known = None

    def poll(self) -> int | None:
        """None while it runs, then its exit code."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("uvicorn", timeout or 0)
        return code

    def ask_to_end(self) -> None:
        """Send SIGTERM to it, and kill its group if it has not ended `stop_seconds` later."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGTERM)
        kill = threading.Timer(self._stop_seconds, self.kill_group)
        kill.daemon = True
        kill.start()

    def kill_group(self) -> None:
        """Kill it and all that it has started."""
        if self._known and self._known.is_running():  # else another process may have its id by now
            end_tree(self.pid)

    def _ended(self, seconds: float | None) -> int | None:
        if self._code is None:
            self._code = self._process.exit_code(seconds)
            if self._code is not None:
                self._process.wire.close()
        return self._code


class ForkedServers:
    """Starts servers of one worker by a zygote; in new interpreters where it has ended."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote

    def __call__(self, command: Sequence[str], env: dict[str, str], cwd: Path, stop_seconds: float) -> Process:
        """Run a `uvicorn_command`, as `process_group.start` does."""
        forked = self._zygote.fork_printing(kind=ASKED)
        if forked is None:
            return start(command, env, cwd, stop_seconds)
        process, output = forked
        path = env["PYTHONPATH"].split(os.pathsep)
        order = {"folder": str(cwd), "path": path, "environment": env, "arguments": [*command[len(UVICORN) :]]}
        with contextlib.suppress(OSError):  # one that was killed at once
            process.wire.send(order)
        return Forked(process, output, stop_seconds)
