"""What a cell really is: a program starts in one, says what it can see and do, and anything too much is an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from checks.harness import ROOT
from checks.harness.walls.wall import NoCell, Plain, Room

LOOK_SECONDS = 30
NAMESPACES = ("pid", "ipc", "uts", "net", "mnt")
HIDDEN = (ROOT / "solutions", ROOT / "tests", Path(os.path.expanduser("~/.ssh")), Path("/var"), Path("/etc/passwd"))
"""What a cell with a file system of its own does not have."""

_PROGRAM = """
import json, os, sys
from pathlib import Path
said = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines() if ':' in line)
print(json.dumps({
    'prefixes': [sys.prefix, sys.base_prefix], 'uid': os.getuid(), 'groups': sorted({os.getgid(), *os.getgroups()}),
    'capabilities': int(said['CapEff'], 16) | int(said['CapBnd'], 16),
    'no_new_privs': int(said['NoNewPrivs']),
    'namespaces': {name: os.readlink('/proc/self/ns/' + name) for name in ('user', *sys.argv[1].split(','))},
    'devices': sorted(line.split(':')[0].strip() for line in Path('/proc/net/dev').read_text().splitlines()[2:]),
    'readable': [name for name in sys.argv[2:] if os.access(name, os.R_OK)],
    'writable': [name for name in ('/usr', '/proc/sys/kernel', sys.prefix) if os.access(name, os.W_OK)],
}))
"""


def look(wall: Plain, room: Room, hidden: Sequence[Path]) -> dict[str, Any]:
    """What a program sees behind that wall; of `hidden` what it can read. Raises `NoCell` with the wall's last word."""
    said: dict[str, Any] = json.loads(run(wall, room, ["-I", "-c", _PROGRAM, ",".join(NAMESPACES), *map(str, hidden)]))
    return said


def run(wall: Plain, room: Room, arguments: Sequence[str], settings: Mapping[str, str] = MappingProxyType({})) -> str:
    """What this Python prints behind that wall. Raises `NoCell` with its last word where it fails."""
    behind = wall.around([sys.executable, *arguments], room, settings)
    try:
        done = subprocess.run(
            behind.arguments, env=behind.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=LOOK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCell(f"it does not start: {error}") from error
    finally:
        wall.end(room)
    if done.returncode:
        raise NoCell((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return done.stdout


def too_much(seen: dict[str, Any], uid: int | None) -> str:
    """What is not right about any cell but the plain one; empty where all is. `uid`: the user that it should have."""
    if seen["uid"] == 0 or (uid is not None and seen["uid"] != uid):
        return "runs as root" if seen["uid"] == 0 else "runs as another user than its own"
    if uid is not None and seen["groups"] != [uid]:
        return "belongs to groups of this machine"
    if seen["capabilities"] or not seen["no_new_privs"]:
        return "has capabilities, or can get them"
    if seen["readable"] or seen["writable"]:
        return f"can read or write {', '.join(seen['readable'] + seen['writable'])}"
    return ""


def shared(seen: dict[str, Any]) -> str:
    """What a cell with namespaces has in common with this machine; empty where it is nothing."""
    for name in NAMESPACES:
        if seen["namespaces"][name] == os.readlink(f"/proc/self/ns/{name}"):
            return f"has no {name} namespace of its own"
    return "" if seen["devices"] == ["lo"] else f"has a network ({', '.join(seen['devices'])})"
