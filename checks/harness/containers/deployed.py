"""A service that runs as deployed, as a process or as a container: what a checkpoint can ask of either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from checks.harness.containers.spec import Container
from checks.harness.processes.single_requests import ask_once
from checks.harness.source_lines import SourceLines

ANSWER_SECONDS = 10.0
SHOWN_LINES = 6


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code (-N for signal N, None when it had to be killed) and what it printed."""

    code: int | None
    output: str


class Running(Protocol):
    """A service on its own, which got its port through the environment.

    Attributes:
        container: what it was started from.
        address: host and port where it answers, seen from here, if it listens on all addresses.
        port: the port in its environment.
        grace: the seconds from the signal that asks it to end until it is killed.
    """

    container: Container
    address: tuple[str, int]
    port: int
    grace: float

    @property
    def exit_code(self) -> int | None:
        """None while it runs, then that of its first process: -N or 128 + N for signal N."""

    def output(self) -> str:
        """The last lines that it printed."""

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that it listens on, seen from inside; empty where that cannot be found.

        A socket on all IPv6 addresses that takes IPv4, too, counts as 0.0.0.0.
        """

    def reach(self, places: set[tuple[str, int]]) -> tuple[str, int] | None:
        """Host and port, seen from here, of one of these places that it listens on; None where none can be reached."""

    def first(self) -> str:
        """The command line of its first process, which gets the signals."""

    def heeds_the_signal(self) -> bool:
        """False if the kernel is certain to drop the signal, as it does for a process 1 without a handler for it."""

    def run(self, command: list[str], seconds: float) -> Ended:
        """Run another command beside it, in the same environment."""

    def freeze(self) -> None:
        """Stop every process of it (SIGSTOP): it is still there, and does nothing."""

    def ask_to_end(self) -> None:
        """Send the signal that asks it to end; after the grace time it is killed. Returns at once."""


def url(running: Running) -> str:
    """Scheme, host and port, without a slash at the end."""
    host, port = running.address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def answers(running: Running, path: str) -> bool:
    """Whether GET `path` over a new connection gets an answer."""
    return ask_once(running.address, path, ANSWER_SECONDS).status is not None


def last_lines(running: Running, count: int = SHOWN_LINES) -> str:
    """The last lines that it printed, to be appended to a sentence."""
    lines = [line.rstrip()[:200] for line in running.output().splitlines() if line.strip()][-count:]
    return "; it printed nothing" if not lines else "\n" + "\n".join(f"    {line}" for line in lines)


def where_printed(running: Running) -> str | None:
    """The learner's line in a traceback that the service printed."""
    text, container = running.output(), running.container
    for source, target in container.copies:
        text = text.replace(f'"{target}"', f'"{container.context / source}"')
    return SourceLines(container.context).where_printed(text)
