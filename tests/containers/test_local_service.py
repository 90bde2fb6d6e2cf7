"""What an image starts, as this machine can run it: programs, paths, scripts, environment, addresses."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from checks.harness.containers.deployed import answers
from checks.harness.containers.local_service import Process, process
from checks.harness.containers.startup import until_it_answers
from checks.harness.errors import LearnerError, NotChecked
from checks.harness.processes.servers import PORTS, free_port
from tests.containers.examples import image
from tests.waiting import until

SH = shutil.which("dash") or shutil.which("sh")
PYTHON = sys.executable


@pytest.mark.parametrize(
    ("command", "local"),
    [
        (["python", "-m", "lab.serve"], [PYTHON, "-m", "lab.serve"]),
        (["python3.12", "/app/lab/serve.py"], [PYTHON, "{root}/app/lab/serve.py"]),
        (["/opt/venv/bin/python3", "-c", "1/app"], [PYTHON, "-c", "1/app"]),
        (["/opt/venv/bin/uvicorn", "lab:app"], [PYTHON, "-m", "uvicorn", "lab:app"]),
        (["sh", "-c", "cd /app && exec /opt/venv/bin/python -m x"], [SH, "-c", "cd {root}/app && exec python -m x"]),
        (["/bin/sh", "-c", "tee /apple /tmp/app </app/x"], [SH, "-c", "tee /apple /tmp/app <{root}/app/x"]),
        (["./start.sh", "--now"], [SH, "{root}/app/start.sh", "--now"]),
        (["/app/start.sh"], [SH, "{root}/app/start.sh"]),
        (["sh", "start.sh"], [SH, "start.sh"]),
    ],
    ids=shlex.join,
)
def test_a_command_of_the_image_is_one_of_this_machine(tmp_path: Path, command: list[str], local: list[str]) -> None:
    """Programs come from here, and the paths of what is copied lead to the copies."""
    made = image(tmp_path, "COPY start.sh ./")

    assert [word.replace("{root}", str(made.root)) for word in local] == made.locally(command)


@pytest.mark.parametrize(
    ("first", "interpreter"),
    [("#!/bin/sh", [SH]), ("#! /bin/sh -e", [SH, "-e"]), ("#!/usr/bin/env python3", [PYTHON])],
)
def test_a_script_is_run_by_what_its_first_line_says(tmp_path: Path, first: str, interpreter: list[str]) -> None:
    """Wherever that lies on this machine; its paths are those of the copies, too."""
    made = image(tmp_path, "COPY start.sh /usr/local/bin/start", f"{first}\nexec cat /app/lab/serve.py\n")
    script = made.root / "usr/local/bin/start"

    assert made.locally(["sh", "-c", "/usr/bin/tee /usr/local/bin/start"])[2] == f"/usr/bin/tee {script}"
    assert [*interpreter, str(script)] == made.locally(["/usr/local/bin/start"])
    assert f"exec cat {made.root}/app/lab/serve.py\n" in script.read_text()


@pytest.mark.parametrize("command", [["gunicorn", "lab:app"], ["/sbin/tini", "--", "python"], ["./nobodys.sh"]])
def test_other_programs_are_not_checked_here(tmp_path: Path, command: list[str]) -> None:
    """What only the image may hold is no mistake."""
    with pytest.raises(NotChecked, match=r"^not checked here: without a Docker engine `"):
        image(tmp_path, "").locally(command)


def test_what_a_shell_does_not_find_is_not_checked_here(tmp_path: Path) -> None:
    """Nor is a program that the shell form calls, in the command or in the health check."""
    with process(image(tmp_path, "CMD exec nobodys-server"), {"PORT": "1"}) as running:
        with pytest.raises(NotChecked, match="nobodys-server"):
            until_it_answers(running)
        with pytest.raises(NotChecked, match="nobodys-check"):
            running.run(["/bin/sh", "-c", "nobodys-check || exit $?"], 10)


@pytest.mark.skipif(os.name == "nt", reason="its files have no such permission")
def test_a_script_needs_the_permission(tmp_path: Path) -> None:
    """As in the image; the Dockerfile may give it."""
    with pytest.raises(LearnerError, match=r"`\./start.sh` cannot be started: permission denied\n(?s:.*)chmod \+x"):
        image(tmp_path / "a", "COPY start.sh ./", mode=0o644).locally(["./start.sh"])

    given = image(tmp_path / "b", "COPY start.sh ./\nRUN chmod +x start.sh", mode=0o644)
    assert given.locally(["./start.sh"])[0] == SH


def test_the_environment_is_the_images_and_not_the_shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is told besides wins; programs come from here, paths lead to the copies."""
    monkeypatch.setenv("HOST", "of this shell")
    made = image(tmp_path, "ENV PORT=8000 COLOUR=red")
    environment = made.environment({"PORT": "9"})

    assert "HOST" not in environment
    assert (environment["PORT"], environment["COLOUR"]) == ("9", "red")
    assert environment["LOGS"] == f"{made.root}/app/logs"
    assert environment["PATH"].startswith(str(Path(PYTHON).parent))


def test_ports_are_free_and_of_nobody_elses_range() -> None:
    """Connections of others go out through ports of another range."""
    assert {free_port() for _ in range(5)} <= set(PORTS)


def run(tmp_path: Path, host: str) -> tuple[set[tuple[str, int]], bool, int]:
    """Where a server on `host` listens, whether it answers, and its port."""
    made = image(tmp_path, f"COPY tiny_server.py ./\nCMD exec python tiny_server.py {host} $PORT")
    told = free_port()
    with process(made, {"PORT": str(told)}) as running:
        found = until(running.listening, "a port that is listened on")
        return found, answers(running, "/"), told


def test_on_all_addresses_it_answers(tmp_path: Path) -> None:
    """That is what a container has to do."""
    found, answered, told = run(tmp_path, "0.0.0.0")

    assert ({("0.0.0.0", told)}, True) == (found, answered)


def test_on_its_own_address_alone_it_does_not(tmp_path: Path) -> None:
    """It is asked at another one."""
    found, answered, told = run(tmp_path, "127.0.0.1")

    assert ({("127.0.0.1", told)}, False) == (found, answered)


def test_the_signal_goes_to_the_first_process_alone(tmp_path: Path) -> None:
    """A shell that waits ends by it, and what it started with it; its code and output are told."""
    made = image(tmp_path, "CMD echo from /app; sleep 60; true")
    with process(made, {"PORT": "1"}) as running:
        until(lambda: "from" in running.output(), "its first line")
        assert running.exit_code is None
        running.ask_to_end()
        code = ended(running)

    assert code == -signal.SIGTERM
    assert running.output() == "from /app"
    assert running.first() == "/bin/sh -c 'echo from /app; sleep 60; true'"


def test_who_does_not_end_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    """Not before."""
    made = image(tmp_path, "CMD trap '' TERM; echo up; sleep 60; true")
    with process(made, {"PORT": "1"}) as running:
        running.grace = 0.3
        until(lambda: "up" in running.output(), "its first line")
        asked = time.monotonic()
        running.ask_to_end()
        code = ended(running)

    assert code == -signal.SIGKILL
    assert time.monotonic() - asked >= 0.3


def ended(running: Process) -> int | None:
    """Its exit code, soon."""
    until(lambda: running.exit_code is not None, "its end")
    return running.exit_code
