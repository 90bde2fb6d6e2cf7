"""The container itself, on a real engine: started as compose would, asked, frozen and stopped."""

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
from checks.harness.errors import LearnerError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Made

TAIL_LINES = 200
KEPT_CHECKS = 5
"""Health checks that an engine remembers."""
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
    """The service in its container; `running.Running` says what can be asked of it."""

    def __init__(self, made: Made, container: Container, told: int) -> None:
        self.told, self.grace = told, container.stop_grace_seconds
        self._made, self._container = made, container
        made.reload()
        bound = (made.attrs["NetworkSettings"]["Ports"] or {}).get(f"{told}/tcp") or [{"HostPort": "0"}]
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
        """Addresses and ports that it listens on, without the engine's own."""
        lines = [line.split() for line in self._python(_LISTENING).splitlines()]
        return {(host, int(port)) for host, port in lines if host != _DNS}

    def first(self) -> str:
        """The command line of process 1."""
        return shlex.join(self._python(_FIRST).splitlines())

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
        """What the engine says of it ("starting", "healthy", "unhealthy"), and its last checks, oldest first."""
        told = self._state().get("Health") or {}
        return told.get("Status", "none"), told.get("Log") or []

    def uid(self) -> str:
        """The number of the user that process 1 runs as."""
        return self._python(_UID).strip()

    def freeze(self) -> None:
        """Stop every process in it: everything is still there, and nothing works."""
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
        """What a few lines of Python print in it; nothing where there is no Python, or no container any more."""
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
    told: Mapping[str, str],
    *,
    network: str,
    owner: str,
    health: Mapping[str, int] | None = None,
    read_only: bool = False,
) -> Iterator[Running]:
    """Run the image as compose would while the body runs, and remove the container at the end.

    `health` gives its timing other numbers: "interval", "timeout", "start_period" in ns, "retries".

    Raises:
        LearnerError: the engine cannot start it, such as a command that is not there.
    """
    from docker.errors import APIError

    port = int(told["PORT"])
    check = {"test": [*container.health.test], **health} if health and container.health else {"test": ["NONE"]}
    made = client.containers.create(
        image,
        container.argv[1:],
        entrypoint=container.argv[:1],
        environment={**container.environment, **told},
        user=container.user or None,
        working_dir=container.workdir,
        stop_signal=container.stop_signal,
        healthcheck=check,
        read_only=read_only,
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
            raise LearnerError(
                f"the engine cannot start it: {error.explanation}\nwanted: a command that is there"
            ) from error
        yield Running(made, container, port)
    finally:
        with contextlib.suppress(APIError):
            made.remove(force=True, v=True)


def until_health(running: Running, wanted: str, seconds: float) -> str:
    """Wait until the engine says so of it, or for so long; what it says then.

    It is not waited for when its last five checks all ended, and badly: one that took too long may be the machine's.
    """
    before = {check["Start"] for check in running.health()[1]}  # of a service that was still starting
    deadline = time.monotonic() + seconds
    while running.exit_code is None and time.monotonic() < deadline:
        said, log = running.health()
        bad = [check for check in log if check["ExitCode"] > 0 and check["Start"] not in before]
        if said == wanted or len(bad) >= KEPT_CHECKS:
            return said
        time.sleep(0.1)
    return running.health()[0]
