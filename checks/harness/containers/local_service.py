"""Runs the command of a container as a plain process, where no engine answers: in its environment and its folder."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import psutil

from checks.harness.containers.deployed import Ended
from checks.harness.containers.spec import Container
from checks.harness.containers.startup import windows_line_ends
from checks.harness.errors import LearnerError, NotChecked
from checks.harness.processes.process_group import Guarded, Tail, descendants, leave_nothing, run_guarded, start

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where an image looks for programs after what its own PATH names."""
SHELLS = ("sh", "bash", "dash", "ash")
_PYTHON = r"python(?:3(?:\.\d+)?)?"
_PROGRAM = re.compile(rf"(?<![\w.-])/[\w./-]*/({_PYTHON}|uvicorn)(?![\w.-])")
_NOT_FOUND = (126, 127)
_SYSTEM = ("usr", "bin", "sbin", "etc", "lib")
"""Folders that are much the same in an image and on this machine, apart from copied files."""


class Process:
    """The service as a process; `deployed.Running` describes the methods."""

    def __init__(self, process: Guarded, image: Image, env: dict[str, str], port: int) -> None:
        self.container = image.container
        self.address = (_elsewhere(), port)
        self.port = port
        self.grace = image.container.stop_grace_seconds
        self._process, self._image, self._env = process, image, env
        self._tail = Tail(process.stdout)

    @property
    def exit_code(self) -> int | None:
        """None while it runs, then that of its first process."""
        code = self._process.poll()
        if code in _NOT_FOUND:
            self._tail.thread.join(1)
            raise NotChecked(f"without a Docker engine `{self.first()}` cannot run here: {self.output()[-200:]}")
        if code is not None:
            self._tail.thread.join(1)
        return code

    def output(self) -> str:
        """The last lines that it printed, with the paths that they have in the container."""
        return self._tail.text().replace(str(self._image.root), "")

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that it and its children listen on."""
        found: set[tuple[str, int]] = set()
        for member in descendants(self._process.pid):
            with contextlib.suppress(psutil.Error):
                listening = (c for c in member.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
                found |= {(c.laddr.ip, c.laddr.port) for c in listening}
        return {("0.0.0.0" if host == "::" and _takes_ipv4(port) else host, port) for host, port in found}

    def reach(self, places: set[tuple[str, int]]) -> tuple[str, int] | None:
        """The first of these places by its own address: a process shares this machine's."""
        return next((("127.0.0.1" if host == "0.0.0.0" else host, port) for host, port in sorted(places)), None)

    def first(self) -> str:
        """The container's own command."""
        return shlex.join(self.container.argv)

    def heeds_the_signal(self) -> bool:
        """False where it has no handler for the signal, and no init passes it on. Known on Linux only."""
        if self.container.init or self.container.stop_signal == "SIGKILL":
            return True
        try:
            command = psutil.Process(self._process.pid).children()[0]
            state = Path(f"/proc/{command.pid}/status").read_text()
        except (psutil.Error, OSError, IndexError):
            return True
        caught = int(re.findall(r"SigCgt:\s*(\w+)", state)[0], 16)
        return bool(caught >> (_number(self.container.stop_signal) - 1) & 1)

    def run(self, command: list[str], seconds: float) -> Ended:
        """Run another command in the same environment and folder."""
        code, output = run_guarded(self._image.locally(command), self._env, self._image.workdir, seconds)
        if code in _NOT_FOUND:
            raise NotChecked(f"without a Docker engine `{shlex.join(command)}` cannot run here: {output[-200:]}")
        return Ended(code, output)

    def freeze(self) -> None:
        """Stop every process of it."""
        for member in descendants(self._process.pid):
            with contextlib.suppress(psutil.Error):
                member.suspend()

    def ask_to_end(self) -> None:
        """Signal the command itself, not its children, as an engine does."""
        with contextlib.suppress(psutil.Error):
            for command in psutil.Process(self._process.pid).children():
                command.send_signal(_number(self.container.stop_signal))
        kill = threading.Timer(self.grace, self._process.kill_group)
        kill.daemon = True
        kill.start()


class Image:
    """The disk of the container under the folder `root`, as far as COPY fills it."""

    def __init__(self, container: Container, root: Path) -> None:
        self.container, self.root = container, root.resolve()
        self.workdir = self._inside(container.workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        for source, target in container.copies:
            self._copy(container.context / source, self._inside(target))
        tops = {PurePosixPath(target).parts[1] for _, target in container.copies if target.startswith("/")}
        tops |= {*PurePosixPath(container.workdir).parts[1:2]}
        paths = "|".join(re.escape(top) for top in sorted(tops)) or "(?!)"
        self._path = re.compile(rf"(?<![\w./-])/(?P<top>{paths})(?![\w.-])[\w./-]*")
        for script in self.root.rglob("*"):
            if script.is_file() and script.suffix != ".py" and script.read_bytes()[:2] == b"#!":
                text = script.read_bytes().decode(errors="replace")  # with the line ends that it has
                text = text.replace("\r\n", "\n") if container.converts_line_ends else text
                script.write_bytes(self._mapped(text).encode(errors="replace"))
                if container.changes_modes:
                    script.chmod(0o755)

    def locally(self, command: list[str]) -> list[str]:
        """The same command for this machine.

        Raises:
            NotChecked: it needs a program that only the image has.
            LearnerError: it is a script that must not be executed, or that no kernel can start.
        """
        program, *rest = command
        return self._resolved(program, [self._mapped(argument) for argument in rest])

    def _found(self, program: str) -> Path:
        """Where a program is: without a slash in its name it is looked for in PATH, and not in the working directory.

        Raises `LearnerError` where only the working directory has it.
        """
        if program.startswith("/"):
            return self.root / program.lstrip("/")
        here = self.workdir / program
        if "/" in program:
            return here
        folders = f"{self.container.environment.get('PATH', '')}:{SYSTEM_PATH}".split(":")
        found = [self.root / folder.lstrip("/") / program for folder in folders if folder.startswith("/")]
        first = next((path for path in found if path.is_file()), None)
        if first is None and here.is_file():
            raise LearnerError(
                f"`{program}` is not found: a name without a slash is looked for in PATH, and not in WORKDIR",
                self.container.argv_at,
                wanted="a script that is found",
                hint=f"`./{program}`, or its whole path.",
            )
        return first or here

    def _resolved(self, program: str, rest: list[str]) -> list[str]:
        """The same, with arguments that are this machine's already."""
        name = PurePosixPath(program).name
        if re.fullmatch(_PYTHON, name):
            return [sys.executable, *rest]
        if name == "uvicorn":
            return [sys.executable, "-m", "uvicorn", *rest]
        if name in SHELLS:
            # The sh of a slim image is dash. Others may run the last command in their own process, without `exec`.
            return [(name == "sh" and shutil.which("dash")) or shutil.which(name) or "/bin/sh", *rest]
        script = self._found(program)
        if script.is_file() and not os.access(script, os.X_OK):
            raise LearnerError(
                f"`{program}` cannot be started: permission denied",
                self.container.argv_at,
                wanted="a script that may be executed",
                hint=f"`chmod +x {name}` here, or `RUN chmod +x {program}` in the Dockerfile after its COPY.",
            )
        first = script.read_bytes().partition(b"\n")[0].decode(errors="replace") if script.is_file() else ""
        if first.startswith("#!"):
            if first.endswith("\r"):
                raise windows_line_ends(self.container)
            interpreter, *options = [word for word in first[2:].split() if PurePosixPath(word).name != "env"]
            return self._resolved(interpreter, [*options, str(script), *rest])
        raise NotChecked(
            f"without a Docker engine `{shlex.join([program, *rest]).replace(str(self.root), '')}` cannot run here: "
            "only python, uvicorn, sh and scripts that the image copies can"
        )

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        """The container's environment with these changes, and this machine's programs."""
        theirs = {name: self._mapped(value) for name, value in {**self.container.environment, **changes}.items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        ours = {"PATH": path, "HOME": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        return theirs | ours

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _mapped(self, text: str) -> str:
        """`text` with this machine's paths and programs in the place of the image's."""

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
def process(image: Image, changes: Mapping[str, str]) -> Iterator[Process]:
    """Run the container's command while the body runs; nothing of it is left afterwards.

    Raises:
        NotChecked: the command needs a program that only the image has.
    """
    env = image.environment(changes)
    running = start(image.locally(image.container.argv), env, image.workdir, image.container.stop_grace_seconds)
    try:
        yield Process(running, image, env, int(changes["PORT"]))
    finally:
        leave_nothing(running, descendants(running.pid))


def _number(name: str) -> int:
    return int(getattr(signal, name, signal.SIGTERM))


def _takes_ipv4(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _elsewhere() -> str:
    """An address of this machine beside 127.0.0.1: a server answers there only if it listens on all addresses."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.2", 0))
        return "127.0.0.2"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent: the system only chooses its own address
        return str(probe.getsockname()[0])
    return "127.0.0.1"
