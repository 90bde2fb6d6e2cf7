"""Waiting for something real, for as long as it may take on this machine at this moment.

A limit in seconds is one of an idle machine: where other processes want the cores as well it stretches by as much as
they slow this one down, so that no test fails because a machine is busy.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from checks.harness import ROOT
from checks.harness.machine import BUSY, CORES, FairClock, crowding, load_in_words

T = TypeVar("T")

INCONCLUSIVE = "inconclusive on a busy machine"
SECOND_TRY = "judged twice"
"""How the reason of a skipped test begins that proves nothing here and now."""
SLOWER = (1, 5, 25)
"""For what has to be long enough, and is tried again when it was not: times as long as on an idle machine."""

SECONDS = 30.0
"""Longer than anything takes that these tests wait for, on an idle machine."""
POLL_SECONDS = 0.02


def until(look: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """Look again and again, until what is seen is true; give it. Fails with `what` was waited for."""
    clock = FairClock()
    while not (seen := look()):
        assert clock.seconds() < seconds, f"{what}: not seen {in_time(seconds)}"
        time.sleep(POLL_SECONDS)
    return seen


def ended(process: subprocess.Popen[str] | subprocess.Popen[bytes], seconds: float = SECONDS) -> int:
    """The exit code of a process, once it has ended."""
    until(lambda: process.poll() is not None, f"the end of {process.args!r}", seconds)
    return process.wait()


def finished(
    command: Sequence[str], seconds: float = 60.0, *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and give what it printed."""
    clock = FairClock()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    ) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, errors = process.communicate(timeout=0.2)
                return subprocess.CompletedProcess(command, process.returncode, output, errors)
            if clock.seconds() > seconds:
                process.kill()
                output, errors = process.communicate()
                pytest.fail(f"{shlex.join(command)} did not end {in_time(seconds)}\n{output}\n{errors}")


def busy() -> bool:
    """Whether so many want the cores, now or over the last minute, that no upper bound on real time means anything."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(crowding(), load / CORES) >= BUSY


@contextlib.contextmanager
def upper_bound() -> Iterator[None]:
    """What is asserted here is true of an idle machine: where it is missed on a busy one, the test is skipped."""
    try:
        yield
    except AssertionError as error:
        if busy():
            pytest.skip(f"{INCONCLUSIVE}: {str(error).partition(chr(10))[0]} ({load_in_words()})")
        raise


def in_time(seconds: float) -> str:
    """How long was waited, for a message."""
    return f"within the {seconds:g} s of an idle machine; this one has {load_in_words()}"
