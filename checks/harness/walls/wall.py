"""A wall as the grading command uses it: the command that runs behind it, its environment and its limits."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

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


class Wall(Protocol):
    """What stands around the run of one submission."""

    name: ClassVar[str]
    counts_processes: ClassVar[bool]
    """Whether processes are counted for this run alone."""

    def around(self, command: Sequence[str], readable: Sequence[Path], folder: Path, number: int) -> list[str]:
        """The command that runs `command` behind this wall.

        Args:
            command: program and arguments.
            readable: files and folders that it may read, at the same paths.
            folder: an empty folder for what it writes; a wall with a file system of its own leaves it empty.
            number: tells runs that go on side by side from each other.
        """
        ...

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of the command that `around` gives."""
        ...

    def scratch(self, folder: Path) -> Path:
        """Where `command` finds an empty folder for what it writes."""
        ...


class Plain:
    """No wall: the run has a process tree, a folder and an environment of its own, and everything else in common."""

    name: ClassVar[str] = "plain"
    counts_processes: ClassVar[bool] = False

    def around(self, command: Sequence[str], readable: Sequence[Path], folder: Path, number: int) -> list[str]:
        """The command as it is."""
        del readable, folder, number
        return list(command)

    def environment(self, folder: Path) -> dict[str, str]:
        """The path to programs and the Docker engine are those of this process; home is the run's own folder."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return kept | common(folder)

    def scratch(self, folder: Path) -> Path:
        """The folder itself."""
        return folder


def common(home: Path) -> dict[str, str]:
    """What every run finds in its environment."""
    return {
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MALLOC_ARENA_MAX": "4",  # address space is limited, and each arena reserves 64 MB of it
    }
