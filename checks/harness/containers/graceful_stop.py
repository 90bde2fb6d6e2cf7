"""A service that is asked to end while it is at work: who still got an answer, and who was turned away."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from checks.harness.containers.deployed import Running, last_lines, url
from checks.harness.errors import LearnerError
from checks.harness.processes.http_client import FEATURES, ask_once
from checks.harness.processes.workers import all_pids

AT_WORK = 4
"""Requests that are in flight when it is asked to end."""
ANSWER_SECONDS = 30.0
"""How long an answer may take beside the work itself."""
END_SECONDS = 10.0
"""How long after its grace time it may take to be gone."""
BETWEEN = 0.1
"""Seconds between two new connections."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """What happened after the signal.

    Attributes:
        answers: of the requests in flight, a status or what came in its place.
        left: the seconds of work at least that each of them had before it when the signal was sent.
        lost_after: the seconds from the signal to the first of them that got anything but a 200, or None.
        turned_away: whether a connection that was opened before the last of those answers got none.
        asked: how many such connections there were.
        exit_code: of the first process; None when it did not end at all.
        seconds: from the signal to the end.
        servers, started, finished: how many workers said that they had started, that their app's lifespan had, and that
            it had shut down.
    """

    answers: list[int | str]
    left: float
    lost_after: float | None
    turned_away: bool
    asked: int
    exit_code: int | None
    seconds: float
    servers: int
    started: int
    finished: int

    @property
    def answered(self) -> int:
        """How many of the requests in flight got their 200."""
        return sum(answer == 200 for answer in self.answers)


class TooLate(Exception):
    """The requests were answered before all workers were seen: nothing was in flight."""


def farewell(running: Running, seconds: float, workers: int) -> Farewell:
    """Ask it to end while it works on requests that take `seconds`.

    A request is in flight for certain when its worker has answered another one that came after it: so every worker is
    asked, over connections that are opened later.

    Raises:
        TooLate: they had got their 200 by then.
        LearnerError: they had got something else.
    """
    begun = time.monotonic()
    with ThreadPoolExecutor(AT_WORK) as pool:
        sent = [pool.submit(_predict, running.address, seconds + ANSWER_SECONDS) for _ in range(AT_WORK)]
        all_pids(url(running), workers, 30)
        if early := [future.result()[0] for future in sent if future.done()]:
            if wrong := [answer for answer in early if answer != 200]:
                raise LearnerError(f"POST /predict gave {wrong[0]}{last_lines(running)}\nwanted: 200")
            raise TooLate
        before = running.output()
        asked_at = time.monotonic()
        running.ask_to_end()
        opened = _knock(running.address, sent, seconds + ANSWER_SECONDS)
        last_answer = max(future.result()[1] for future in sent)
        answers = [future.result()[0] for future in sent]
        lost = [at - asked_at for answer, at in (future.result() for future in sent) if answer != 200]
        knocks = [knock for at, knock in opened if at < last_answer]
        turned_away = not all(_gets_an_answer(knock) for knock in knocks)
        for _, knock in opened:
            if knock:
                knock.close()
    deadline = asked_at + running.grace + END_SECONDS
    while running.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.02)
    took, said = time.monotonic() - asked_at, running.output()
    return Farewell(
        answers,
        begun + seconds - asked_at,
        min(lost, default=None),
        turned_away,
        len(knocks),
        running.exit_code,
        took,
        started=before.count("Application startup complete"),
        finished=said.count("Application shutdown complete"),
        servers=before.count("Started server process"),
    )


def _predict(address: tuple[str, int], seconds: float) -> tuple[int | str, float]:
    """What POST /predict gave, and when."""
    answer = ask_once(address, "/predict", seconds, method="POST", body=FEATURES)
    return answer.status or type(answer.error).__name__, time.monotonic()


def _knock(
    address: tuple[str, int], sent: list[Future[tuple[int | str, float]]], seconds: float
) -> list[tuple[float, socket.socket | None]]:
    """New connections, one after the other, each with a question, until those in flight have their answers.

    With several workers a connection may be opened and never served: the port is open until the last of them has ended.
    So nobody waits for an answer here.
    """
    opened: list[tuple[float, socket.socket | None]] = []
    deadline = time.monotonic() + seconds
    while not all(future.done() for future in sent) and time.monotonic() < deadline:
        at, knock = time.monotonic(), None
        with contextlib.suppress(OSError):
            knock = socket.create_connection(address, timeout=1)
            knock.sendall(b"GET /health HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n")
        opened.append((at, knock))
        time.sleep(BETWEEN)
    return opened


def _gets_an_answer(knock: socket.socket | None) -> bool:
    if knock is None:
        return False
    knock.settimeout(END_SECONDS)
    try:
        return knock.recv(1) != b""
    except OSError:
        return False
