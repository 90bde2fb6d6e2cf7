"""The docker cell on a real engine: what a container can see, reach and use up, and that none is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.walls import docker
from checks.harness.walls.choice import choose
from checks.harness.walls.docker import Docker
from checks.harness.walls.wall import NoCell, Room
from tests.waiting import finished, until


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A folder for one run; the container is removed at the end. Skips where no engine answers."""
    if why := docker.missing():
        pytest.skip(f"no docker cell: {why}")
    room = Room([], tmp_path, os.getpid() % 1000)
    yield room
    Docker().end(room)


def told(program: str, room: Room) -> subprocess.CompletedProcess[str]:
    """What a program in Python prints in a docker cell."""
    behind = Docker().around([sys.executable, "-c", program], room, {"GIVEN": "words"})
    return finished(behind.arguments, env=behind.environment)


def containers() -> list[str]:
    """The names of the lab's containers that are there, running or not."""
    command = ["docker", "ps", "--all", "--filter", f"label={docker.LABEL}", "--format", "{{.Names}}"]
    return finished(command, env=dict(os.environ)).stdout.split()


@pytest.mark.exhaustive
@pytest.mark.cost(4)
def test_a_container_sees_nothing_but_what_it_was_given(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with a comma and a space; no solutions, no tests, no process outside, nothing of the environment."""
    monkeypatch.setenv("CANARY", "a secret")
    given, other = room.folder / "given, too", room.folder / "other"
    for folder in (given, other):
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "file.txt").write_text("words")
    program = f"""
import json, os
from pathlib import Path
print(json.dumps({{
    "given": Path({str(given)!r}, "file.txt").read_text(),
    "beside": os.listdir({str(room.folder)!r}),
    "lab": sorted(os.listdir({str(ROOT)!r})) if os.path.exists({str(ROOT)!r}) else [],
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "environment": dict(os.environ),
    "user": os.getuid(),
}}))
"""
    done = told(program, Room([given], room.folder, room.number))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    assert seen["given"] == "words"
    assert seen["beside"] == ["given, too"]
    assert not {"solutions", "tests"} & set(seen["lab"])
    assert max(seen["processes"]) < 10
    assert seen["environment"]["GIVEN"] == "words"
    assert not {"CANARY", "USER", "DOCKER_HOST"} & set(seen["environment"])
    assert seen["user"] == docker.UID


@pytest.mark.exhaustive
@pytest.mark.cost(4)
@pytest.mark.parametrize(
    ("act", "error"),
    [
        ("open('/new', 'w')", "Read-only file system|Permission denied"),
        ("open(sys.prefix + '/new', 'w')", "Read-only file system|Permission denied"),
        ("open('/proc/sys/kernel/core_pattern', 'w')", "Read-only file system|Permission denied"),
        ("open('/tmp/large', 'wb').write(bytes(600 * 2**20))", "No space left"),
        ("open('/dev/shm/large', 'wb').write(bytes(100 * 2**20))", "No space left"),
        ("socket.create_connection(('1.1.1.1', 53), 3)", "Network is unreachable"),
        ("socket.create_connection(('127.0.0.1', {port}), 3)", "Connection refused"),
        ("os.setuid(0)", "Operation not permitted"),
        ("[os.fork() or time.sleep(20) for _ in range(2000)]", "Resource temporarily unavailable"),
    ],
)  # fmt: skip
def test_a_container_holds(act: str, error: str, room: Room) -> None:
    """It writes nowhere but to a little memory, reaches no network and no port of this machine, and stays who it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = told(f"import os, socket, sys, time\n{act.format(port=server.getsockname()[1])}", room)

    assert done.returncode == 1
    assert any(words in done.stderr for words in error.split("|")), done.stderr


@pytest.mark.exhaustive
@pytest.mark.cost(4)
def test_memory_ends_where_it_should(room: Room) -> None:
    """All processes of a container together have 4 GB: who wants more is killed, and the machine is not."""
    program = """
import os, time
children = [pid for _ in range(6) if (pid := os.fork()) or not (bytearray(b"x") * (1000 * 2**20) and time.sleep(5))]
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] if len(children) == 6 else "", flush=True)
"""
    done = told(program, room)

    assert "-9" in done.stdout or done.returncode in (137, -9), (done.stdout, done.stderr)


@pytest.mark.exhaustive
@pytest.mark.cost(4)
def test_no_container_outlives_its_grading(room: Room) -> None:
    """To kill the program that started it is not enough: the container is removed by its name."""
    behind = Docker().around([sys.executable, "-c", "import time; time.sleep(600)"], room, {})
    with subprocess.Popen(behind.arguments, env=behind.environment, stdin=subprocess.PIPE) as process:
        until(lambda: any(name.endswith(f"-{room.number}") for name in containers()), "a container")
        process.kill()
    assert any(name.endswith(f"-{room.number}") for name in containers())

    Docker().end(room)

    assert not any(name.endswith(f"-{room.number}") for name in containers())


def test_without_the_program_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    docker._examine.cache_clear()
    try:
        with pytest.raises(NoCell, match="the program `docker` is not installed"):
            choose("docker")
    finally:
        docker._examine.cache_clear()


@pytest.mark.skipif(not shutil.which("docker"), reason="needs the program `docker`")
def test_without_an_engine_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to start is said."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    docker._examine.cache_clear()
    try:
        with pytest.raises(NoCell, match="no Docker engine answers"):
            choose("docker")
    finally:
        docker._examine.cache_clear()
