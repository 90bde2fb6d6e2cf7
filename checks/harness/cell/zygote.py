"""Starts cells: an interpreter that has imported what they need, and forks one in milliseconds whenever it is asked.

It runs no line of the learner's. What is asked for comes over a socket: one byte, and four file descriptors for the
cell (to read, to write, for its output) and for how it ends (its process id, later its wait status, a line each).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
from typing import NoReturn

sys.modules["pytest"] = None  # type: ignore[assignment]  # looptime would take it along, and a cell has no use for it
from checks.harness.cell import inside  # noqa: E402

del sys.modules["pytest"]

HEAVY = ("pydantic_settings",)
"""What the lab's given modules import that takes long."""
SERVICE = ("anyio._backends._asyncio", "fastapi", "httpx", "httpcore", "pydantic.v1", "structlog")
"""What a learner's service imports beside that; httpx imports httpcore for its first client."""

LOOK = 1.0
"""Seconds between two looks whether the process still lives that started this one."""

FDS = 4


def main(arguments: list[str]) -> None:
    """`fork FD`: start cells that are asked for over that socket; `fork FD service`: some of them are for a service.

    `cell`: be one, between standard input and output.

    The last argument is the folder with the lab, which nothing in here finds any more.
    """
    root = arguments.pop()
    sys.path[:] = [path for path in sys.path if path != root]
    for name in [name for name in sys.modules if name.partition(".")[0] == "checks"]:
        del sys.modules[name]
    if arguments[0] == "fork":
        _start_cells(socket.socket(fileno=int(arguments[1])), service="service" in arguments)
    reader, writer = os.dup(0), os.dup(1)
    _silence(0)
    os.dup2(2, 1)
    inside.run(reader, writer)


def _start_cells(control: socket.socket, *, service: bool) -> NoReturn:
    parent, ends = os.getppid(), dict[int, int]()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for pytest, which then ends this process
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    if service or not selector.select(0):  # else a judge waits already, perhaps for a cell that needs none of them
        for name in [*HEAVY, *(SERVICE if service else ())]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    gc.freeze()
    while os.getppid() == parent:
        ready = [key.fileobj for key, _ in selector.select(LOOK)]
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        _tell_ends(ends)
        if control in ready:
            asked, fds, _, _ = socket.recv_fds(control, 1, FDS)
            if not asked:
                break
            reader, writer, output, told = fds
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                selector.close()
                for one in (control.fileno(), woken, wake, told, *ends.values()):
                    os.close(one)
                _be_a_cell(reader, writer, output)
            with contextlib.suppress(OSError):  # a judge that has been killed meanwhile
                os.write(told, f"{pid}\n".encode())
            ends[pid] = told
            for one in (reader, writer, output):
                os.close(one)
    for pid in ends:
        for kill in (os.killpg, os.kill):  # one that has just been forked leads no group yet
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
    os._exit(0)


def _tell_ends(ends: dict[int, int]) -> None:
    """Tell of each cell that has ended how it ended."""
    for pid, told in list(ends.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(told)
            del ends[pid]


def _be_a_cell(reader: int, writer: int, output: int) -> NoReturn:
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _silence(0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        inside.run(reader, writer)
    finally:
        os._exit(1)


def _silence(end: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, end)
    os.close(nothing)
