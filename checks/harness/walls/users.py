"""Users that no machine knows: a run that root starts has one of its own, and is ended by it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from checks.harness.walls.wall import NoCell

FIRST_UID = 61_000_000
"""From here on, a thousand for each process that grades."""
NARROW_UID, NARROW = 60_600, 500
"""The first and how many where a container has but the usual 65,536 users."""

_SHARED = ("/tmp", "/var/tmp", "/dev/shm")
_ROUNDS, _PAUSE = 50, 0.1
_ALL_OF_THIS_USER = ("/bin/sh", "-c", "kill -KILL -1")


def user_of(number: int) -> int:
    """The user of the run with that number; another one for each run of each process that grades at this moment."""
    wide = FIRST_UID + os.getpid() % 100_000 * 1000 + number % 1000
    narrow = NARROW_UID + (os.getpid() * 31 + number) % NARROW
    return wide if _mapped(wide) else narrow


def _mapped(uid: int) -> bool:
    """Whether this user namespace has a user of that number."""
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return True
    ranges = [(int(first), int(many)) for first, _, many in (line.split() for line in lines)]
    return any(first <= uid < first + many for first, many in ranges)


def become(uid: int) -> list[str]:
    """What makes the rest of a command that user's, without a capability and with no way back. Raises `NoCell`."""
    program = shutil.which("setpriv")
    if not program:
        raise NoCell("setpriv is missing, with which root becomes another user: install util-linux")
    without = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    return [program, f"--reuid={uid}", f"--regid={uid}", *without]


def end_processes(uid: int) -> None:
    """Kill all processes of that user, wherever they are, and wait for their end; only root may."""
    for _ in range(_ROUNDS):
        # The kernel itself goes through them. Whoever reads /proc can miss one that forks and ends all the time.
        subprocess.run(
            _ALL_OF_THIS_USER,
            user=uid, group=uid, extra_groups=[], check=False, capture_output=True,
        )  # fmt: skip
        if not processes(uid):
            return
        time.sleep(_PAUSE)


def processes(uid: int) -> list[int]:
    """The ids of that user's processes that have not ended."""
    return [pid for pid, owner, state in _all_processes() if owner == uid and state not in "ZX"]


def _all_processes() -> Iterator[tuple[int, int, str]]:
    """Id, user and state of each; the owner of its folder says nothing, for a process can hide behind root."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, KeyError, ValueError):
                lines = (folder / "status").read_text(errors="replace").splitlines()
                said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
                yield int(folder.name), int(said["Uid"].split()[0]), said["State"][0]


def remove_files(uid: int) -> None:
    """Remove what that user has left where everybody may write."""
    for folder in map(Path, _SHARED):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid != uid:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        os.unlink(entry.path)
