"""The pytest run that the command line starts: started, and ended with all that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import psutil

KEPT_BYTES = 65536
PATIENCE = 5.0
"""Seconds that an interrupted run has for its end."""

if sys.platform == "win32":
    _FLAGS, _INTERRUPT = subprocess.CREATE_NEW_PROCESS_GROUP, signal.CTRL_BREAK_EVENT
else:
    _FLAGS, _INTERRUPT = 0, signal.SIGINT


class PytestRun:
    """One run. `stop` may be called at any time, and more than once."""

    def __init__(self, root: Path, arguments: list[str]) -> None:
        self.arguments = arguments
        self.stopped = False
        self._root = root
        self._process: asyncio.subprocess.Process | None = None

    async def finish(self) -> tuple[int, str]:
        """Run it to its end: its exit code, and the end of what it printed."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pytest",
            *self.arguments,
            cwd=self._root,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the guide's terminal is not for it
            creationflags=_FLAGS,
        )
        if self.stopped:  # while it was being started
            await self.stop()
        printed = b""
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(KEPT_BYTES):
            printed = (printed + chunk)[-KEPT_BYTES:]
        return await self._process.wait(), printed.decode(errors="replace")

    async def stop(self) -> None:
        """Interrupt it, so that what it has judged stays; kill it with its family if that takes too long."""
        self.stopped = True
        if self._process is None or self._process.returncode is not None:
            return
        family = _family(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(_INTERRUPT)
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except TimeoutError:
            for process in family | _family(self._process.pid):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            await self._process.wait()


def _family(pid: int) -> set[psutil.Process]:
    """A process and all that it has started, in whatever group or session they are."""
    try:
        process = psutil.Process(pid)
        return {process, *process.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()
