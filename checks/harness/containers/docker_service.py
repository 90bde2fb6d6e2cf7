"""A container on a real engine: started as compose would, asked, frozen and stopped."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from checks.harness.containers.deployed import Ended
from checks.harness.containers.engine import LABEL
from checks.harness.containers.spec import Container
from checks.harness.containers.startup import windows_line_ends
from checks.harness.errors import LearnerError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Made

TAIL_LINES = 200
KEPT_CHECKS = 5
"""Health checks that an engine keeps."""
_LISTENING = """
import socket, struct
for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
    for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == "0A":
            host, port = local.split(":")
            words = struct.pack(f"={len(host) // 8}I", *(int(host[i:i + 8], 16) for i in range(0, len(host), 8)))
            host, port = socket.inet_ntop(family, words), int(port, 16)
            with socket.socket() as v4:
                v4.settimeout(5)
                dual = host == "::" and v4.connect_ex(("127.0.0.1", port)) == 0
            print("0.0.0.0" if dual else host, port)
"""
_FIRST = "print(open('/proc/1/cmdline').read().rstrip('\\0').replace('\\0', '\\n'))"
_UID = "print(open('/proc/1/status').read().split('Uid:')[1].split()[0])"
_OTHERS = """
import os, sys
mine = os.getpid()
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) not in (1, mine):
        os.kill(int(pid), int(sys.argv[1]))
"""
_STOP = 19  # in the container, which is Linux
_DNS = "127.0.0.11"  # the engine's own, in every container


class Running:
    """The service in its container; `deployed.Running` describes the methods."""

    def __init__(self, made: Made, container: Container, port: int) -> None:
        self.container, self.port, self.grace = container, port, container.stop_grace_seconds
        self._made = made
        made.reload()
        bound = (made.attrs["NetworkSettings"]["Ports"] or {}).get(f"{port}/tcp") or [{"HostPort": "0"}]
        self.address = ("127.0.0.1", int(bound[0]["HostPort"]))

    @property
    def exit_code(self) -> int | None:
        """None while it runs, then that of its first process."""
        state = self._state()
        return None if state["Running"] else int(state["ExitCode"])

    def output(self) -> str:
        """The last lines that it printed."""
        return _text(self._made.logs(tail=TAIL_LINES))

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that it listens on, without the engine's own DNS."""
        lines = [line.split() for line in self._python(_LISTENING).splitlines()]
        return {(host, int(port)) for host, port in lines if host != _DNS}

    def reach(self, places: set[tuple[str, int]]) -> tuple[str, int] | None:  # noqa: ARG002
        """None: only the published port can be reached from here."""
        return None

    def first(self) -> str:
        """The command line of process 1."""
        return shlex.join(self._python(_FIRST).splitlines()) or shlex.join(self.container.argv)

    def heeds_the_signal(self) -> bool:
        """True: the kernel itself decides, and the checkpoint sees what happens."""
        return True

    def run(self, command: list[str], seconds: float) -> Ended:
        """Run another command in the container."""
        ended: list[Ended] = []

        def work() -> None:
            code, output = self._made.exec_run(command)
            ended.append(Ended(code, _text(output)))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(seconds)
        return ended[0] if ended else Ended(None, "")

    def ask_to_end(self) -> None:
        """`docker stop`."""
        threading.Thread(target=self._stop, daemon=True).start()

    def health(self) -> tuple[str, list[dict[str, Any]]]:
        """The engine's status ("starting", "healthy", "unhealthy"), and the last checks, oldest first."""
        health = self._state().get("Health") or {}
        return health.get("Status", "none"), health.get("Log") or []

    def uid(self) -> str:
        """The user id of process 1."""
        return self._python(_UID).strip()

    def freeze(self) -> None:
        """Stop every process in it (SIGSTOP): everything is still there, and nothing works."""
        self._python(_OTHERS, str(_STOP), user="0")
        self._made.kill(signal="SIGSTOP")

    def _stop(self) -> None:
        from docker.errors import APIError

        with contextlib.suppress(APIError):
            self._made.stop(timeout=round(self.grace))

    def _state(self) -> dict[str, Any]:
        self._made.reload()
        state: dict[str, Any] = self._made.attrs["State"]
        return state

    def _python(self, code: str, *arguments: str, user: str = "") -> str:
        """What a few lines of Python print in it; nothing without Python, or when it has ended."""
        from docker.errors import APIError

        for name in ("python3", "python"):
            with contextlib.suppress(APIError):
                found, output = self._made.exec_run([name, "-c", code, *arguments], user=user)
                if found == 0:
                    return _text(output)
        return ""


def _text(output: Any) -> str:
    return bytes(output or b"").decode(errors="replace")


@contextlib.contextmanager
def running(
    client: DockerClient,
    image: str,
    container: Container,
    changes: Mapping[str, str],
    *,
    network: str,
    owner: str,
    health: Mapping[str, int] | None = None,
    read_only: bool = False,
) -> Iterator[Running]:
    """Run the image as compose would while the body runs, with `changes` in its environment; then remove it.

    `health` is another timing of its health check: "interval", "timeout", "start_period" in ns, "retries".

    Raises:
        LearnerError: the engine cannot start it, such as a command that is not there.
    """
    from docker.errors import APIError

    port = int(changes["PORT"])
    check = {"test": [*container.health.test], **health} if health and container.health else {"test": ["NONE"]}
    made = client.containers.create(
        image,
        container.argv[1:],
        entrypoint=container.argv[:1],
        environment={**container.environment, **changes},
        user=container.user or None,
        working_dir=container.workdir,
        stop_signal=container.stop_signal,
        healthcheck=check,
        read_only=read_only,
        init=container.init or None,
        tmpfs={"/tmp": ""} if read_only else None,
        network=network,
        ports={f"{port}/tcp": ("127.0.0.1", 0)},
        labels={LABEL: owner},
        detach=True,
    )
    try:
        try:
            made.start()
        except APIError as error:
            raise _cannot_start(container, str(error.explanation)) from error
        yield Running(made, container, port)
    finally:
        with contextlib.suppress(APIError):
            made.remove(force=True, v=True)


def _cannot_start(container: Container, said: str) -> LearnerError:
    """What to say of a container whose command cannot be executed."""
    first = next(iter(container.scripts.values()), "").partition("\n")[0]
    if "no such file" in said and first.startswith("#!") and first.endswith("\r"):
        return windows_line_ends(container)
    name = container.argv[0] if container.argv else "the command"
    hint = f"`RUN chmod +x {name}` in the Dockerfile." if "permission denied" in said else ""
    return LearnerError(
        f"the engine cannot start it: {said}", container.argv_at, wanted="a command that is in the image", hint=hint
    )


def until_health(running: Running, wanted: str, seconds: float) -> str:
    """Wait until the engine's status is `wanted`, for at most so many seconds; the status then.

    It waits no longer once the last five checks ended with an exit code above 0: then it is not the time that is short.
    """
    before = {check["Start"] for check in running.health()[1]}  # from the start of the service
    deadline = time.monotonic() + seconds
    while running.exit_code is None and time.monotonic() < deadline:
        said, log = running.health()
        bad = [check for check in log if check["ExitCode"] > 0 and check["Start"] not in before]
        if said == wanted or len(bad) >= KEPT_CHECKS:
            return said
        time.sleep(0.1)
    return running.health()[0]
