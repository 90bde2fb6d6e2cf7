"""Processes that the guide starts, pytest above all, and ends with everything that they have started."""

from __future__ import annotations

import asyncio
import contextlib
import json
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


async def begin(*command: str, cwd: Path, speaks: bool = False, limit: int = 2**16) -> asyncio.subprocess.Process:
    """Start a command in a session of its own: Ctrl-C in the guide's terminal is not for it. Its output is one stream.

    `speaks`: it gets something on its standard input. `limit` is the most bytes of a line.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        limit=limit,
        stdin=asyncio.subprocess.PIPE if speaks else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        creationflags=_FLAGS,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Interrupt it, so that it can end what it has begun; kill it with its family if that takes too long."""
    if process.returncode is not None:
        return
    family = _family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(_INTERRUPT)
    try:
        await asyncio.wait_for(process.wait(), PATIENCE)
    except TimeoutError:
        for member in family | _family(process.pid):
            with contextlib.suppress(psutil.Error):
                member.kill()
        await process.wait()


class Ready:
    """A pytest that has its libraries imported and waits for its arguments, so that a run begins at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process: asyncio.subprocess.Process | None = None

    async def prepare(self) -> None:
        """Have one that waits."""
        if self._process is None or self._process.returncode is not None:
            self._process = await begin(sys.executable, "-m", "lab_guide.warm", cwd=self._root, speaks=True)

    async def run(self, arguments: list[str]) -> asyncio.subprocess.Process:
        """The process of a run with these arguments: the one that waits, or else a new one."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            with contextlib.suppress(ConnectionError):
                process.stdin.write(json.dumps(arguments).encode() + b"\n")
                await process.stdin.drain()
                process.stdin.close()
                return process
        return await begin(sys.executable, "-m", "pytest", *arguments, cwd=self._root)

    async def end(self) -> None:
        """Have none any more."""
        if self._process is not None:
            await end(self._process)
            self._process = None


class PytestRun:
    """One run. `stop` may be called at any time, and more than once."""

    def __init__(self, ready: Ready, arguments: list[str]) -> None:
        self.arguments = arguments
        self.stopped = False
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None

    async def finish(self) -> tuple[int, str]:
        """Run it to its end: its exit code, and the end of what it printed."""
        self._process = await self._ready.run(self.arguments)
        if self.stopped:  # while it was being started
            await self.stop()
        printed = b""
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(KEPT_BYTES):
            printed = (printed + chunk)[-KEPT_BYTES:]
        return await self._process.wait(), printed.decode(errors="replace")

    async def stop(self) -> None:
        """End it: what it has judged stays."""
        self.stopped = True
        if self._process is not None:
            await end(self._process)


def _family(pid: int) -> set[psutil.Process]:
    """A process and all that it has started, in whatever group or session they are."""
    try:
        process = psutil.Process(pid)
        return {process, *process.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()
