"""Waiting for a service that was deployed: it answers, or the reason why it does not."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import pytest

from checks.harness import machine
from checks.harness.containers import startup
from checks.harness.containers.deployed import Ended, last_lines
from checks.harness.containers.spec import Container
from checks.harness.containers.startup import until_it_answers
from checks.harness.errors import Inconclusive, LearnerError
from checks.harness.processes.servers import free_port
from tests.containers.examples import ANY
from tests.threaded_server import Server, answer, read_request, serving


@dataclass
class Scripted:
    """A service that is not there, and says so much of itself."""

    exit_code: int | None = None
    said: str = ""
    places: set[tuple[str, int]] = field(default_factory=set)
    port: int = 8080
    grace: float = 1
    container: Container = ANY
    address: tuple[str, int] = field(default_factory=lambda: ("127.0.0.1", free_port()))

    def output(self) -> str:
        """What it printed."""
        return self.said

    def listening(self) -> set[tuple[str, int]]:
        """Where it listens."""
        return self.places

    def first(self) -> str:
        """Its command."""
        return "python"

    def run(self, command: list[str], seconds: float) -> Ended:
        """Every command ends well."""
        return Ended(0, "")

    def reach(self, places: set[tuple[str, int]]) -> tuple[str, int] | None:
        """It can be reached nowhere else."""
        return None

    def heeds_the_signal(self) -> bool:
        """It would."""
        return True

    def freeze(self) -> None:
        """It is not there."""

    def ask_to_end(self) -> None:
        """It is not there."""


def refusing(peer: socket.socket, _: Server) -> None:
    """Answer every request with a 404."""
    while read_request(peer) is not None:
        peer.sendall(answer(status=404))


def silent(peer: socket.socket, _: Server) -> None:
    """Take the connection, and close it."""


def test_any_answer_will_do() -> None:
    """A 404 comes from a server that is there."""
    with serving(refusing) as server:
        until_it_answers(Scripted(address=server.address))


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (
            Scripted(3, "starting\n\nboom"),
            "ended with exit code 3 before it answered GET /health: boom\n    starting\n    boom",
        ),
        (
            Scripted(0),
            "exit code 0 before it answered GET /health: no output; it printed nothing\n"
            "wanted: a server that runs until it is asked to end\ntry: The container ends with its first process",
        ),
        (
            Scripted(1, "Traceback:\n  ...\nModuleNotFoundError: No module named 'lab'\n"),
            "before it answered GET /health: ModuleNotFoundError: No module named 'lab'\n",
        ),
        (
            Scripted(2, "Error: Invalid value for '--port': '$PORT' is not a valid integer."),
            "Exec form does not resolve",
        ),
        (Scripted(1, "[Errno 98] Address already in use"), "with PORT=8080 it uses another port, which is taken"),
        (Scripted(places={("127.0.0.1", 8080)}), "with PORT=8080 it listens on 127.0.0.1:8080\nwanted: 0.0.0.0:8080"),
        (Scripted(places={("::", 1), ("0.0.0.0", 80)}), "with PORT=8080 it listens on 0.0.0.0:80, [::]:1\n"),
        (Scripted(places={("0.0.0.0", 8080)}), "no answer to GET /health within 0.4 s; it printed nothing"),
        (Scripted(), "no answer to GET /health within 0.4 s"),
    ],
)
def test_who_does_not_answer_is_told_apart(service: Scripted, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended; it listens elsewhere, for good; or it just does not."""
    monkeypatch.setattr(startup, "SETTLED_SECONDS", 0.1)
    monkeypatch.setattr(startup, "IMPORT_SECONDS", 60)  # however busy the machine of this test is
    monkeypatch.setattr(machine, "BUSY", 1e9)
    with pytest.raises(LearnerError) as raised:
        until_it_answers(service, seconds=0.4)

    assert words in str(raised.value)


def test_a_port_that_somebody_else_took_is_not_its_mistake() -> None:
    """Between the choice of a port and its use there is a moment."""
    with serving(silent) as server, pytest.raises(Inconclusive, match="took port 8080"):
        until_it_answers(Scripted(1, "Address already in use", address=server.address))


def test_only_the_last_lines_are_told() -> None:
    """Six of them, cut to 200 characters."""
    told = last_lines(Scripted(said="\n".join(f"{number} {'x' * 300}" for number in range(20))))

    assert told.startswith("\n    14 xxx")
    assert len(told.splitlines()) == 7
    assert max(map(len, told.splitlines())) == 204
