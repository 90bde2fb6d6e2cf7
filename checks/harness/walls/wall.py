"""A wall as the grading command uses it: the command that runs behind it, its environment and its limits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_KEPT = ("PATH", "DOCKER_HOST", "SYSTEMROOT")
"""What a run in the plain cell takes over of the environment; nothing that a teacher's shell may hold besides."""


class NoCell(Exception):
    """This machine cannot have the cell that is wanted, or none was chosen that may grade: one sentence."""


@dataclass(frozen=True)
class Limits:
    """What each process of a submission may use, and how many processes and threads there may be at once."""

    memory_mb: int = 4096
    file_mb: int = 200
    open_files: int = 4096
    processes: int = 1024

    def apply(self, *, count_processes: bool) -> None:
        """Take them on for this process and all that it starts.

        Args:
            count_processes: False where the kernel would count the processes that the user has elsewhere, too.
        """
        if sys.platform == "win32":
            return
        import resource

        wanted = [
            (resource.RLIMIT_AS, self.memory_mb * 2**20),
            (resource.RLIMIT_FSIZE, self.file_mb * 2**20),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_CORE, 0),
            *([(resource.RLIMIT_NPROC, self.processes)] if count_processes else []),
        ]
        for name, most in wanted:
            hard = resource.getrlimit(name)[1]
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(name, (least, least))


@dataclass(frozen=True)
class Behind:
    """A command that runs behind a wall: program and arguments, and the environment that they are started with."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Room:
    """Where one run lives.

    `readable`: files and folders that it may read, at the same paths. `folder`: empty, for what it writes; a wall with
    a file system of its own leaves it empty. Its parent is for this run alone. `number` tells runs that go on side by
    side from each other.
    """

    readable: Sequence[Path]
    folder: Path
    number: int


class Plain:
    """No wall: the run has a process tree, a folder and an environment of its own, and everything else in common.

    The other walls are made from it: each says what it does in another way.
    """

    name: ClassVar[str] = "plain"
    counts_processes: ClassVar[bool] = False
    """Whether processes are counted for this run alone."""

    def around(self, command: Sequence[str], room: Room, settings: Mapping[str, str]) -> Behind:
        """What runs `command` behind this wall; `settings` are added to the environment that it finds.

        Here: the path to programs and the Docker engine are those of this process; home is the run's own folder.
        """
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return Behind(list(command), kept | common(room.folder) | dict(settings))

    def scratch(self, room: Room) -> Path:
        """Where `command` finds an empty folder for what it writes."""
        return room.folder

    def end(self, room: Room) -> None:
        """End and remove what may be left of a run whose first process has ended."""

    @contextmanager
    def hiding(self, out: Path, paths: Sequence[Path]) -> Iterator[None]:
        """While a class is graded into `out`: keep the grades and these paths from the runs. Raises `NoCell`."""
        del out, paths
        yield


def why_not(examine: Callable[[], None]) -> str:
    """Why this machine cannot have a cell, in one sentence with what to do; empty where it can.

    `examine` starts one and looks at it. It raises `NoCell` where something is missing, or is not as it should be.
    """
    try:
        examine()
    except NoCell as error:
        return str(error)
    return ""


def common(home: Path) -> dict[str, str]:
    """What every run finds in its environment."""
    return {
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MALLOC_ARENA_MAX": "4",  # address space is limited, and each arena reserves 64 MB of it
    }


def of_its_own(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """An environment in which nothing is of this process's."""
    return {"PATH": f"{Path(sys.prefix, 'bin')}:/usr/local/bin:/usr/bin:/bin", **common(home), **settings}
