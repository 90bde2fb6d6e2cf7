"""The uid cell: another user, for where root can make neither namespaces nor containers, as in a grader's container.

A run can read what every user of this machine can read, and has its network. It cannot become somebody else, touch what
belongs to others, or outlive its grading: all processes of its user are killed.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from checks.harness import ROOT
from checks.harness.walls import look
from checks.harness.walls.closed import closed
from checks.harness.walls.users import become, end_processes, remove_files, user_of
from checks.harness.walls.wall import Behind, NoCell, Plain, Room, of_its_own, why_not

_LOOKED_FOR = (Path("/etc/shadow"), Path("/proc/1/environ"))
_IMPORTED = "import checks.harness.classroom.first_program"


class Uid(Plain):
    """A cell that is a user of its own."""

    name: ClassVar[str] = "uid"
    counts_processes: ClassVar[bool] = True

    def around(self, command: Sequence[str], room: Room, settings: Mapping[str, str]) -> Behind:
        """`setpriv ... command`: the run's folder becomes that user's, and only it can enter the one above."""
        uid = user_of(room.number)
        os.chown(room.folder, uid, uid)
        room.folder.chmod(0o700)
        os.chown(room.folder.parent, 0, uid)
        room.folder.parent.chmod(0o710)
        return Behind([*become(uid), *command], of_its_own(room.folder, settings))

    def end(self, room: Room) -> None:
        """Kill every process of the user, and remove its files."""
        end_processes(user_of(room.number))
        remove_files(user_of(room.number))

    @contextmanager
    def hiding(self, out: Path, paths: Sequence[Path]) -> Iterator[None]:
        """The grades are root's alone from now on; what else is hidden is closed to others meanwhile."""
        mask = os.umask(0o077)
        try:
            with ExitStack() as stack:
                for path in (ROOT / "solutions", ROOT / "tests", *paths):
                    if not any(needed.resolve().is_relative_to(path.resolve()) for needed in (ROOT, out)):
                        stack.enter_context(closed(path))
                out.chmod(0o711)
                for path in out.iterdir():
                    if not path.is_symlink():
                        path.chmod(0o700 if path.is_dir() else 0o600)
                if closed_above := _closed_above(out):
                    raise NoCell(f"a run in the uid cell cannot reach {out}: {closed_above} is closed to other users")
                yield
        finally:
            os.umask(mask)


def _closed_above(path: Path) -> str:
    """The first folder on the way to `path` that other users cannot enter; empty where all are open."""
    for folder in reversed([path, *path.resolve().parents]):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return str(folder)
    return ""


def missing() -> str:
    """Why this machine cannot have the cell, in one sentence with what to do; empty where it can."""
    return why_not(_examine)


@lru_cache
def _examine() -> None:
    """Start a cell and look at what it is. Raises `NoCell` where it is not what it should be."""
    import tempfile

    if sys.platform != "linux":
        raise NoCell("the uid cell needs Linux")
    if os.geteuid() != 0:
        raise NoCell("the uid cell needs root, which alone can become another user")
    wall = Uid()
    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        room = Room([], Path(above, "home"), 999)
        room.folder.mkdir()
        try:
            seen = look.look(wall, room, _LOOKED_FOR)
        except (NoCell, OSError) as error:
            raise NoCell(f"no other user can start {sys.executable} here: {error}") from error
        if seen["prefixes"] != [sys.prefix, sys.base_prefix]:  # it has found another one's library in its place
            raise NoCell(
                f"no other user can read the interpreter in {sys.base_prefix}: install it elsewhere, with uv in the "
                "folder that UV_PYTHON_INSTALL_DIR names"
            )
        try:
            look.run(wall, room, ["-c", _IMPORTED], {"PYTHONPATH": str(ROOT)})
        except NoCell as error:
            raise NoCell(f"no other user can read the lab in {ROOT}: {error}") from error
    if wrong := look.too_much(seen, user_of(room.number)):
        raise NoCell(f"the uid cell {wrong}, so nothing may be graded in it")
