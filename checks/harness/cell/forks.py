"""A process that has done its imports, and forks another one in milliseconds whenever it is asked.

It runs no line of the learner's. What is asked for comes over a socket: one byte, and four file descriptors: for the
new process to read, to write and for its output, and one for how it ends (its process id, later its wait status, a line
each).
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
from _thread import start_new_thread
from collections.abc import Callable
from os import close, fork, read, waitpid  # gevent puts others in their place, which need its loop to run
from signal import signal as on_signal

LOOK = 1.0
"""Seconds between two looks whether the process still lives that started this one."""

FDS = 4


def leave_the_lab(root: str) -> None:
    """Have nothing in this process find the lab, which is in that folder: what is needed of it has been imported."""
    sys.path[:] = [path for path in sys.path if path != root]
    for name in [name for name in sys.modules if name.partition(".")[0] == "checks"]:
        del sys.modules[name]


def fork_when_asked(control: socket.socket, prepare: Callable[[Callable[[], bool]], None]) -> tuple[bytes, int, int]:
    """Fork processes that are asked for over that socket, until its other side or the parent of this process has ended.

    `prepare` does the imports; it is given a function that says whether somebody waits already.

    Returns, in each forked process only: the byte by which it was asked for, and the two ends that it reads and writes.
    It leads a session, its output goes where it was asked to, and there is nothing to read for it on standard input.
    """
    parent, ends = os.getppid(), dict[int, int]()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for pytest, which then ends this process
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    prepare(lambda: bool(selector.select(0)))
    on_signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    gc.freeze()
    while os.getppid() == parent:
        ready = [key.fileobj for key, _ in selector.select(LOOK)]
        with contextlib.suppress(BlockingIOError):
            read(woken, 4096)
        _tell_ends(ends)
        if control in ready:
            asked, fds, _, _ = socket.recv_fds(control, 1, FDS)
            if not asked:
                break
            reader, writer, output, told = fds
            if (pid := fork()) == 0:
                signal.set_wakeup_fd(-1)
                selector.close()
                control.close()
                for one in (woken, wake, told, *ends.values()):
                    close(one)
                _become_another(output)
                return asked, reader, writer
            with contextlib.suppress(OSError):  # a judge that has been killed meanwhile
                os.write(told, f"{pid}\n".encode())
            ends[pid] = told
            for one in (reader, writer, output):
                close(one)
    for pid in ends:
        for kill in (os.killpg, os.kill):  # one that has just been forked leads no group yet
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
    os._exit(0)


def end_with(reader: int) -> None:
    """End this process and its group when the other side of that file descriptor has closed it: on a thread."""

    def watch() -> None:
        while read(reader, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    start_new_thread(watch, ())


def print_by_lines() -> None:
    """Send each line that is printed at once, whatever standard output was when this process was forked."""
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115


def silence(end: int) -> None:
    """Have nothing to read at that file descriptor."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, end)
    close(nothing)


def _tell_ends(ends: dict[int, int]) -> None:
    """Tell of each process that has ended how it ended."""
    for pid, told in list(ends.items()):
        ended, status = waitpid(pid, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            close(told)
            del ends[pid]


def _become_another(output: int) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    on_signal(signal.SIGCHLD, signal.SIG_DFL)
    silence(0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    close(output)
