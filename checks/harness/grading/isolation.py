"""Runs one piece of work in a process of its own, with a deadline. Whatever the work does, the caller goes on.

Two ways to the same end: `forked` (milliseconds, from a parent that has imported the heavy libraries) and `spawned`
(a new interpreter, a second or so, for platforms where a fork is not to be had or not safe).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import psutil

from checks.harness.machine import FairClock
from checks.harness.processes.process_group import descendants, end_tree

OUTPUT_KEPT = 64 * 1024
"""Bytes of output that are kept, the last ones: a flood must not fill memory or a disk."""

PAYLOAD_MOST = 1_000_000
"""Bytes that a piece of work may send: a checkpoint's outcome with its pictures takes some thousands."""

TURN = 0.05
"""Seconds between two looks of the watchdog at its clock."""

GRACE = 3.0
"""Seconds between the deadline, at which the watchdog inside reports, and the killing of the process."""


ORPHAN_ROUNDS = 20
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended. `payload` is what it sent, empty when it could not; `stacks` is faulthandler's word on a hang."""

    payload: bytes
    output: str
    exit_code: int | None
    seconds: float
    stacks: str


Send = Callable[[bytes], None]


class Watchdog:
    """Runs in the isolated process: calls `late` at the deadline, and dumps stacks if even that cannot run.

    `late(what, starved)` is called at the deadline; `starved`: the machine was too busy, so no verdict is possible.
    """

    def __init__(self, seconds: float, stacks: Path, late: Callable[[str, bool], None]) -> None:
        self._late = late
        self._deadlines = [(time.monotonic() + seconds, f"finish within {seconds:g} s")]
        self._stacks = stacks.open("w")
        self._sleep = time.sleep  # the one of this moment: a learner's code may put another in its place
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        faulthandler.dump_traceback_later(seconds + GRACE / 2, exit=True, file=self._stacks)

    @contextlib.contextmanager
    def within(self, seconds: float, what: str) -> Iterator[None]:
        """A nearer deadline for a part of the work; `what` completes 'did not ...'."""
        self._deadlines.append((time.monotonic() + seconds, what))
        faulthandler.dump_traceback_later(seconds + GRACE / 2, exit=True, file=self._stacks)
        try:
            yield
        finally:
            self._deadlines.pop()
            left = self._deadlines[0][0] - time.monotonic()
            faulthandler.dump_traceback_later(max(left, 0.1) + GRACE / 2, exit=True, file=self._stacks)

    def _run(self) -> None:
        started, turns, clock = time.monotonic(), 0, FairClock()
        while True:
            when, what = self._deadlines[-1]
            clock.seconds()
            if time.monotonic() >= when:
                wanted = (time.monotonic() - started) / TURN
                self._late(what, turns < wanted / 10 or clock.busy)
            self._sleep(TURN)
            turns += 1


def forked(
    work: Callable[[Send], None],
    seconds: float,
    *,
    prepare: Callable[[], None],
    echo: bool,
    stacks: Path,
    tick: Callable[[], None],
) -> Ending:
    """Run `work` in a forked process, which sends its payload through the function it is given.

    `prepare` is called in there before its output is redirected; `echo` lets the output through as well as keeping it;
    `tick` is called about ten times a second meanwhile.
    """
    started = time.monotonic()
    result, sent = os.pipe()
    output, written = os.pipe()
    alive, lifeline = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        for end in (result, output, lifeline):
            os.close(end)
        _be_the_child(prepare, work, sent, written, alive)
    for end in (sent, written, alive):
        os.close(end)
    reader = _Reader({result: bytearray(), output: bytearray()}, output, echo)
    try:
        while reader.open and time.monotonic() - started < seconds + GRACE:
            reader.read(0.1)
            tick()
            if result not in reader.open or _complete(reader.data[result]):
                break
    finally:
        end_tree(pid)
        _, status = os.waitpid(pid, 0)
        reader.drain()
        os.close(lifeline)
        reader.close()
    text = reader.data[output].decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    return Ending(_payload(reader.data[result]), text, code, time.monotonic() - started, _read(stacks))


def spawned(
    command: Sequence[str], payload: Path, seconds: float, *, echo: bool, stacks: Path, tick: Callable[[], None]
) -> Ending:
    """Run a command that writes its payload to a file: the way without a fork."""
    started = time.monotonic()
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True)
    kept = bytearray()

    def drain() -> None:
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            _keep(kept, chunk, echo)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        while process.poll() is None and not payload.exists() and time.monotonic() - started < seconds + GRACE:
            tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
    finally:
        end_tree(process.pid)
        process.wait()
        reader.join(1)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
    sent = payload.read_bytes()[:PAYLOAD_MOST] if payload.exists() else b""
    return Ending(sent, kept.decode(errors="replace"), process.returncode, time.monotonic() - started, _read(stacks))


def adopt_orphans(*, adopt: bool = True) -> None:
    """On Linux: become the parent of every descendant whose own parent ends, so that `end_descendants` finds it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def end_descendants(spared: Set[int] = frozenset()) -> None:
    """Kill all descendants of this process, sessions of their own or not, but those with these pids.

    What those have started is killed with the rest.
    """
    for _ in range(ORPHAN_ROUNDS):  # one that is being killed may just have started another
        found = [child for child in descendants(os.getpid()) if child.pid not in spared]
        end_processes(found)
        if not found:
            return


def end_processes(found: Collection[psutil.Process]) -> None:
    """Kill these, and wait until they have ended."""
    for child in found:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(found, GRACE)


def wait_to_be_ended() -> None:
    """Stay until the parent ends this process: only from a living one can it find everything that was started here."""
    time.sleep(GRACE)


def follow_parent(alive: int) -> None:
    """End this process and its group when the other end of the pipe closes: the parent has ended, in whatever way."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(alive, 1):
                pass
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _be_the_child(
    prepare: Callable[[], None], work: Callable[[Send], None], sent: int, written: int, alive: int
) -> None:
    """Never returns: nothing of the parent's (atexit, buffers, open reports) may run a second time here."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        prepare()
        os.dup2(written, 1)
        os.dup2(written, 2)
        # Line by line: the last output must not be lost in a buffer.
        sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115
        follow_parent(alive)
        once = threading.Lock()

        def send(payload: bytes) -> None:
            if once.acquire(blocking=False):  # the watchdog may send at the moment when the work is done
                _write_all(sent, payload)

        work(send)
        code = 0
        wait_to_be_ended()
    except BaseException:  # the last line of defence: the parent reads it in the output
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Reader:
    """Reads several pipes until they close."""

    def __init__(self, data: dict[int, bytearray], flood: int, echo: bool) -> None:
        self.data = data
        self.open = set(data)
        self._flood, self._echo = flood, echo
        self._selector = selectors.DefaultSelector()
        for end in data:
            self._selector.register(end, selectors.EVENT_READ)

    def read(self, seconds: float) -> bool:
        ready = self._selector.select(seconds)
        for key, _ in ready:
            chunk = os.read(key.fd, 65536)
            if not chunk:
                self._selector.unregister(key.fd)
                self.open.discard(key.fd)
            elif key.fd == self._flood:
                _keep(self.data[key.fd], chunk, self._echo)
            elif len(self.data[key.fd]) <= PAYLOAD_MOST:
                self.data[key.fd] += chunk
        return bool(ready)

    def drain(self) -> None:
        """What is still in the pipes; a process that got away may hold one open, so never wait for its end."""
        for _ in range(100):
            if not self.open or not self.read(0):
                return

    def close(self) -> None:
        self._selector.close()
        for end in self.data:
            os.close(end)


def _keep(kept: bytearray, chunk: bytes, echo: bool) -> None:
    kept += chunk
    del kept[:-OUTPUT_KEPT]
    if echo:
        sys.__stdout__.write(chunk.decode(errors="replace"))  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


def _complete(data: bytearray) -> bool:
    """Whether the whole payload has come: a process left behind may hold the pipe open, so its end says nothing."""
    return len(data) >= 8 and len(data) - 8 >= min(int.from_bytes(data[:8], "big"), PAYLOAD_MOST)


def _payload(data: bytearray) -> bytes:
    return bytes(data[8:]) if _complete(data) else b""


def _write_all(end: int, payload: bytes) -> None:
    view = memoryview(len(payload).to_bytes(8, "big") + payload)
    while view:
        view = view[os.write(end, view) :]


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
