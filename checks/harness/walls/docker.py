"""The docker cell: a container without network or capability, its tree read only, on an engine of this machine.

Its image holds one empty folder. Programs, libraries and the interpreter are this machine's, bound into it. So nothing
is downloaded, and what judges is the same as in any other cell.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from checks.harness.walls import look
from checks.harness.walls.system import HOME, SHARED_MB, SYSTEM, TMPFS_MB, seen_with
from checks.harness.walls.wall import Behind, Limits, NoCell, Plain, Room, of_its_own, why_not

IMAGE = "inference-latency-lab:cell-1"
LABEL = "inference-latency-lab=cell"
UID = 60_600
"""A user without a name; containers tell runs apart, so one is enough. Engines for one user have only 65,536."""
ENGINE_SECONDS = 30

_MADE_BY_THE_ENGINE = ("hosts",)


class Docker(Plain):
    """A cell that is a container."""

    name: ClassVar[str] = "docker"
    counts_processes: ClassVar[bool] = False
    """`--pids-limit` does it, for the container alone."""

    def around(self, command: Sequence[str], room: Room, settings: Mapping[str, str]) -> Behind:
        """`docker run ... command`. The environment of this process is for the program `docker`; the run's is new."""
        limits = Limits()
        arguments = [
            *_docker("run", "--rm", "--interactive", "--name", _name(room), "--label", LABEL),
            *("--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--pids-limit", str(limits.processes), "--user", f"{UID}:{UID}", "--hostname", "cell"),
            *("--memory", f"{limits.memory_mb}m", "--memory-swap", f"{limits.memory_mb}m"),
            *("--tmpfs", f"{HOME}:rw,exec,nosuid,nodev,mode=1777,size={TMPFS_MB}m", "--shm-size", f"{SHARED_MB}m"),
            *("--workdir", str(HOME)),
            *_binds(room.readable),
        ]
        for name, value in of_its_own(HOME, settings).items():
            arguments += ["--env", f"{name}={value}"]
        return Behind([*arguments, IMAGE, *command], dict(os.environ))

    def scratch(self, room: Room) -> Path:
        """A folder that only the container has, in memory."""
        del room
        return HOME

    def end(self, room: Room) -> None:
        """Remove the container: to end the program that started it does not end it."""
        _say("rm", "--force", "--volumes", _name(room))


def missing() -> str:
    """Why this machine cannot have the cell, in one sentence with what to do; empty where it can."""
    return why_not(_examine)


def _name(room: Room) -> str:
    return f"lab-cell-{os.getpid()}-{room.number}"


def _docker(*arguments: str) -> list[str]:
    """A command for the engine. Raises `NoCell` where its program is not installed."""
    program = shutil.which("docker")
    if not program:
        raise NoCell("the program `docker` is not installed, which starts containers")
    return [program, *arguments]


def _say(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """What the engine answers; exit code 124 where it does not within `ENGINE_SECONDS`."""
    command = _docker(*arguments)
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=ENGINE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, b"", f"no answer within {ENGINE_SECONDS} s".encode())


def _binds(readable: Sequence[Path]) -> list[str]:
    """This machine's programs and what is readable, at the same paths, read only."""
    system = [path for path in SYSTEM if path.is_dir()]
    wanted = [path for path in seen_with(readable, _MADE_BY_THE_ENGINE) if not _below(path, SYSTEM)]
    arguments: list[str] = []
    for path in dict.fromkeys([*system, *wanted]):
        arguments += ["--mount", _fields("type=bind", f"source={path.resolve()}", f"target={path}", "readonly")]
    return arguments


def _image() -> bytes:
    """A tar of the only folder in it, whose mode the engine gives to what it mounts there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folder = tarfile.TarInfo(str(HOME.relative_to("/")))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
    return packed.getvalue()


def _below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _fields(*fields: str) -> str:
    """A line of CSV, as `--mount` reads it: a path may hold a comma."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


@lru_cache
def _examine() -> None:
    """Start a cell and look at what it is. Raises `NoCell` where it is not what it should be."""
    if sys.platform != "linux":
        raise NoCell("the docker cell needs Linux: it binds this machine's programs into a container")
    answer = _say("version", "--format", "{{.Server.Version}}")
    if answer.returncode:
        raise NoCell(f"no Docker engine answers ({_last(answer)}): start one, or install Docker Engine")
    if _say("image", "inspect", IMAGE).returncode:
        made = _say("import", "-", IMAGE, data=_image())
        if made.returncode:
            raise NoCell(f"the engine makes no image: {_last(made)}")
    try:
        seen = look.look(Docker(), Room([], HOME, 0), look.HIDDEN)
    except NoCell as error:
        raise NoCell(f"a container does not start: {error}") from error
    if wrong := look.shared(seen) or look.too_much(seen, UID):
        raise NoCell(f"the engine made a container that {wrong}, so nothing may be graded in it")


def _last(answer: subprocess.CompletedProcess[bytes]) -> str:
    return (answer.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
