"""Waiting for something real, for as long as it may take on this machine at this moment.

A limit in seconds is one of an idle machine: where other processes want the cores as well it stretches by as much as
they slow this one down, so that no test fails because a machine is busy.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from checks.harness import ROOT
from checks.harness.machine import FairClock, load_in_words

T = TypeVar("T")

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


def in_time(seconds: float) -> str:
    """How long was waited, for a message."""
    return f"within the {seconds:g} s of an idle machine; this one has {load_in_words()}"
