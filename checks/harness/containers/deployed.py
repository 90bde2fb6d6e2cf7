"""A service that runs as deployed, as a process or as a container: what a checkpoint can ask of either."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from checks.harness.errors import Inconclusive, LearnerError
from checks.harness.processes.http_client import ask_once

READY_SECONDS = 60.0
"""How long a service may take to answer, on a very busy machine."""
IMPORT_SECONDS = 4.0
"""How long the imports of a service may take, which take 1 s, until the machine is too busy to wait for one."""
SETTLED_SECONDS = 1.5
"""How long it listens somewhere else before that is where it stays."""
POLL_SECONDS = 0.05
ANSWER_SECONDS = 10.0
SHOWN_LINES = 8
ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code (-N for signal N, None when it had to be killed) and what it printed."""

    code: int | None
    output: str


class Running(Protocol):
    """A service on its own, which was told its port through the environment.

    Attributes:
        address: host and port where it answers, seen from here, if it listens on all addresses.
        told: the port that it was told.
        grace: the seconds that it gets to end of its own accord.
    """

    address: tuple[str, int]
    told: int
    grace: float

    @property
    def exit_code(self) -> int | None:
        """None while it runs, then that of its first process: -N or 128 + N for signal N."""

    def output(self) -> str:
        """The last lines that it printed."""

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that it listens on, seen from inside; empty where nobody can know.

        A socket on all IPv6 addresses that takes IPv4, too, counts as 0.0.0.0.
        """

    def first(self) -> str:
        """The command line of its first process, the one that gets the signals."""

    def run(self, command: list[str], seconds: float) -> Ended:
        """Run another command beside it, in the same environment."""

    def ask_to_end(self) -> None:
        """Send the signal that asks it to end; after the grace time it is killed. Returns at once."""


def url(running: Running) -> str:
    """Scheme, host and port, without a slash at the end."""
    return "http://{}:{}".format(*running.address)


def until_it_answers(running: Running, path: str = "/health", seconds: float = READY_SECONDS) -> None:
    """Wait until GET `path` is answered, whatever the answer.

    Raises:
        LearnerError: it ended before; it listens elsewhere, and so for good; or the time was over.
        Inconclusive: the time was over, on a machine that is too busy to start anything in it.
        Inconclusive: somebody else took its port.
    """
    deadline, elsewhere = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < deadline:
        if answers(running, path):
            return
        if (code := running.exit_code) is not None:
            if "address already in use" in running.output().lower():
                raise _port_taken(running)
            raise LearnerError(
                f"it ended with exit code {code} before it answered GET {path}{last_lines(running)}\n"
                "wanted: a server that goes on until it is asked to end"
            )
        found = running.listening()
        if not found or (ANY, running.told) in found:
            elsewhere = time.monotonic()
        if time.monotonic() - elsewhere > SETTLED_SECONDS:
            places = ", ".join(sorted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in found))
            raise LearnerError(
                f"with PORT={running.told} it listens on {places}\nwanted: 0.0.0.0:{running.told}, which is every "
                "address of the container: nobody outside can reach its 127.0.0.1, or knows of another port"
            )
        time.sleep(POLL_SECONDS)
    started = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", "import fastapi, uvicorn"], capture_output=True, timeout=seconds)
    if time.monotonic() - started > IMPORT_SECONDS:
        raise Inconclusive(f"too busy a machine: no answer within {seconds:g} s")
    raise LearnerError(f"no answer to GET {path} within {seconds:g} s{last_lines(running)}\nwanted: a service")


def _port_taken(running: Running) -> Exception:
    """Whose mistake it is that it found its port taken."""
    with suppress(OSError), socket.create_connection(running.address, timeout=1):
        return Inconclusive(f"somebody else on this machine took port {running.told} just before the service did")
    return LearnerError(
        f"with PORT={running.told} it wants another port, which is taken on this machine{last_lines(running)}\n"
        f"wanted: 0.0.0.0:{running.told}: which port is free knows only who runs the image"
    )


def answers(running: Running, path: str) -> bool:
    """Whether GET `path` over a new connection gets an answer."""
    return ask_once(running.address, path, ANSWER_SECONDS).status is not None


def last_lines(running: Running) -> str:
    """What it printed last, to be appended to a sentence."""
    lines = [line.rstrip()[:200] for line in running.output().splitlines() if line.strip()][-SHOWN_LINES:]
    return "; it printed nothing" if not lines else "\n" + "\n".join(f"    {line}" for line in lines)
