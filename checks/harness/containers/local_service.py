"""The command of a container run as a plain process, where no engine answers: with its environment, in its folder."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import psutil

from checks.harness.containers.deployed import Ended
from checks.harness.containers.spec import Container
from checks.harness.errors import LearnerError, NotChecked
from checks.harness.processes.process_group import Tail, descendants, leave_nothing, run_guarded, start

SHELLS = ("sh", "bash", "dash", "ash")
_PYTHON = r"python(?:3(?:\.\d+)?)?"
_PROGRAM = re.compile(rf"(?<![\w.-])/[\w./-]*/({_PYTHON}|uvicorn)(?![\w.-])")
_NOT_FOUND = (126, 127)
_SYSTEM = ("usr", "bin", "sbin", "etc", "lib")
"""Folders in which an image and this machine hold much the same, beside what is copied there."""


class Process:
    """The service as a process; `Running` says what can be asked of it."""

    def __init__(self, process: subprocess.Popen[bytes], image: Image, env: dict[str, str], told: int) -> None:
        self.address = (_elsewhere(), told)
        self.told = told
        self.grace = image.container.stop_grace_seconds
        self._process, self._image, self._env = process, image, env
        self._tail = Tail(process)

    @property
    def exit_code(self) -> int | None:
        """None while it runs, then that of its first process."""
        code = self._process.poll()
        if code in _NOT_FOUND:
            self._tail.thread.join(1)
            raise NotChecked(f"without a Docker engine `{self.first()}` cannot be run here: {self.output()[-200:]}")
        if code is not None:
            self._tail.thread.join(1)
        return code

    def output(self) -> str:
        """The last lines that it printed, with the paths that they have in the container."""
        return self._tail.text().replace(str(self._image.root), "")

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that it and its children listen on."""
        found: set[tuple[str, int]] = set()
        for member in descendants(self._process):
            with contextlib.suppress(psutil.Error):
                listening = (c for c in member.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
                found |= {(c.laddr.ip, c.laddr.port) for c in listening}
        return {("0.0.0.0" if host == "::" and _takes_ipv4(port) else host, port) for host, port in found}

    def first(self) -> str:
        """The container's own command."""
        return shlex.join(self._image.container.argv)

    def run(self, command: list[str], seconds: float) -> Ended:
        """Run another command in the same environment and folder."""
        code, output = run_guarded(self._image.locally(command), self._env, self._image.workdir, seconds)
        if code in _NOT_FOUND:
            raise NotChecked(f"without a Docker engine `{shlex.join(command)}` cannot be run here: {output[-200:]}")
        return Ended(code, output)

    def ask_to_end(self) -> None:
        """Signal the command itself, not its children: that is what an engine does."""
        number = getattr(signal, self._image.container.stop_signal, signal.SIGTERM)
        with contextlib.suppress(psutil.Error):
            for command in psutil.Process(self._process.pid).children():
                command.send_signal(number)
        kill = threading.Timer(self.grace, self._process.stdin.close)  # type: ignore[union-attr]  # it is a pipe
        kill.daemon = True
        kill.start()


class Image:
    """What the container would find on its disk, as far as it is copied there, under the folder `root`."""

    def __init__(self, container: Container, tree: Path, root: Path) -> None:
        self.container, self.root = container, root.resolve()
        self.workdir = self._inside(container.workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        for source, target in container.copies:
            self._copy(tree / source, self._inside(target))
        tops = {PurePosixPath(target).parts[1] for _, target in container.copies if target.startswith("/")}
        tops |= {*PurePosixPath(container.workdir).parts[1:2]}
        paths = "|".join(re.escape(top) for top in sorted(tops)) or "(?!)"
        self._path = re.compile(rf"(?<![\w./-])/(?P<top>{paths})(?![\w.-])[\w./-]*")
        for script in self.root.rglob("*"):
            if script.is_file() and script.suffix != ".py" and script.read_bytes()[:2] == b"#!":
                script.write_text(self._mapped(script.read_text(errors="replace")))
                if container.changes_modes:
                    script.chmod(0o755)

    def locally(self, command: list[str]) -> list[str]:
        """The same command for this machine.

        Raises:
            NotChecked: it is none that can be run without the image.
            LearnerError: it is a script that nobody may execute.
        """
        program, *rest = command
        rest = [self._mapped(argument) for argument in rest]
        name = PurePosixPath(program).name
        if re.fullmatch(_PYTHON, name):
            return [sys.executable, *rest]
        if name == "uvicorn":
            return [sys.executable, "-m", "uvicorn", *rest]
        if name in SHELLS:
            # The sh of a slim image is dash. Another one may give its process to the last command, without `exec`.
            return [(name == "sh" and shutil.which("dash")) or shutil.which(name) or "/bin/sh", *rest]
        script = self.root / program.lstrip("/") if program.startswith("/") else self.workdir / program
        if script.is_file() and not os.access(script, os.X_OK):
            raise LearnerError(
                f"`{program}` cannot be started: permission denied\n"
                f"wanted: a script that may be executed: `chmod +x {name}`, here or in the Dockerfile"
            )
        if script.is_file() and (first := re.match(r"#!\s*(.*)", script.read_text(errors="replace"))):
            interpreter = [word for word in first[1].split() if PurePosixPath(word).name != "env"]
            return self.locally([*interpreter, str(script), *rest])
        raise NotChecked(
            f"without a Docker engine `{shlex.join(command)}` cannot be run here: of programs that an image may hold "
            "only python, uvicorn, sh and scripts that it copies are known here, too"
        )

    def environment(self, told: Mapping[str, str]) -> dict[str, str]:
        """The container's environment with what it is told besides; programs come from here."""
        theirs = {name: self._mapped(value) for name, value in {**self.container.environment, **told}.items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        ours = {"PATH": path, "HOME": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        return theirs | ours

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _mapped(self, text: str) -> str:
        def moved(path: re.Match[str]) -> str:
            inside = self._inside(path[0])
            return path[0] if path["top"] in _SYSTEM and not inside.exists() else f"{self.root}{path[0]}"

        return self._path.sub(moved, _PROGRAM.sub(r"\1", text))

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / source.name if target.is_dir() else target)


@contextlib.contextmanager
def process(image: Image, told: Mapping[str, str]) -> Iterator[Process]:
    """Run the container's command while the body runs; nothing of it is left afterwards.

    Raises:
        NotChecked: the command is none that can be run without the image.
    """
    env = image.environment(told)
    running = start(image.locally(image.container.argv), env, image.workdir, image.container.stop_grace_seconds)
    try:
        yield Process(running, image, env, int(told["PORT"]))
    finally:
        leave_nothing(running, descendants(running))


def _takes_ipv4(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _elsewhere() -> str:
    """An address of this machine that is not 127.0.0.1, where only that answers which listens on all addresses."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.2", 0))
        return "127.0.0.2"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent: the system only chooses its own address
        return str(probe.getsockname()[0])
    return "127.0.0.1"
