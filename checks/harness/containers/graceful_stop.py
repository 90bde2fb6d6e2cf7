"""Asks a service to end while it is at work: which requests get an answer, and whether it refuses new connections."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from checks.harness.containers.deployed import Running, last_lines, url
from checks.harness.errors import LearnerError
from checks.harness.machine import FairClock
from checks.harness.processes.single_requests import FEATURES, ask_once
from checks.harness.processes.workers import all_pids

AT_WORK = 4
"""Requests that are in flight when it is asked to end."""
ANSWER_SECONDS = 30.0
"""How long an answer may take beside the work itself."""
END_SECONDS = 10.0
"""How long it may take from the end of its grace time until it is gone."""
BETWEEN = 0.1
"""Seconds between two new connections."""
_KILLED = (None, 137, -9)
_STARTED = "Application startup complete"
_PRINTED_SECONDS = 0.5
"""How long the log may be behind the answers, in fair seconds."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """What happened after the signal.

    Attributes:
        first: the command line of process 1, which gets the signal.
        heeded: False where the kernel drops the signal, since process 1 has no handler for it: then nothing was sent.
        answers: of each request in flight, the status or the error in its place.
        left: the seconds of work that each of them still had to do when the signal was sent, at least.
        lost_after: the seconds from the signal to the first answer that is no 200, or None.
        turned_away: whether a connection that was opened before the last of those answers got no answer.
        asked: how many such connections there were.
        exit_code: of the first process; None when it did not end.
        seconds: from the signal to the end.
        servers, started, finished: how many workers printed that they started, that their app's lifespan started, and
            that it shut down.
        busy: whether the machine was too busy for an upper bound on real time.
    """

    first: str
    heeded: bool
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
    busy: bool

    @property
    def answered(self) -> int:
        """How many of the requests in flight got their 200."""
        return sum(answer == 200 for answer in self.answers)

    @property
    def killed(self) -> bool:
        """Whether it did not end by itself."""
        return self.exit_code in _KILLED


class TooLate(Exception):
    """The requests were answered before all workers were seen: nothing was in flight."""


def farewell(running: Running, seconds: float, workers: int) -> Farewell:
    """Ask it to end while it works on requests that take `seconds`.

    A request is certain to be in flight once its worker has answered another request that came later. So every worker
    is asked, over connections that are opened later.

    Raises:
        TooLate: all had got their 200 by then.
        LearnerError: one of them had got something else.
    """
    begun, clock = time.monotonic(), FairClock()
    with ThreadPoolExecutor(AT_WORK) as pool:
        sent = [pool.submit(_predict, running.address, seconds + ANSWER_SECONDS) for _ in range(AT_WORK)]
        answered = all_pids(url(running), workers, 30)
        if early := [future.result()[0] for future in sent if future.done()]:
            if wrong := [answer for answer in early if answer != 200]:
                raise LearnerError(f"POST /predict gave {wrong[0]}{last_lines(running)}", wanted="200")
            raise TooLate
        before, first = _output_of(running, len(answered)), running.first()
        asked_at = time.monotonic()
        heeded = running.heeds_the_signal()
        if heeded:
            running.ask_to_end()
        opened = _knock(running.address, sent, seconds + ANSWER_SECONDS, clock) if heeded else []
        last_answer = max(future.result()[1] for future in sent)
        answers = [future.result()[0] for future in sent]
        lost = [at - asked_at for answer, at in (future.result() for future in sent) if answer != 200]
        knocks = [knock for at, knock in opened if at < last_answer]
        turned_away = not all(_gets_an_answer(knock) for knock in knocks)
        for _, knock in opened:
            if knock:
                knock.close()
    deadline = asked_at + running.grace + END_SECONDS if heeded else 0.0
    while running.exit_code is None and time.monotonic() < deadline:
        clock.seconds()
        time.sleep(0.02)
    took, printed = time.monotonic() - asked_at, running.output()
    return Farewell(
        first=first,
        heeded=heeded,
        answers=answers,
        left=begun + seconds - asked_at,
        lost_after=min(lost, default=None),
        turned_away=turned_away,
        asked=len(knocks),
        exit_code=running.exit_code,
        seconds=took,
        servers=before.count("Started server process"),
        started=before.count(_STARTED),
        finished=printed.count("Application shutdown complete"),
        busy=clock.busy,
    )


def _output_of(running: Running, workers: int) -> str:
    """The log so far, with what so many workers print before they answer: it is read by another thread."""
    clock = FairClock()
    while running.output().count(_STARTED) < workers and clock.seconds() < _PRINTED_SECONDS:
        time.sleep(0.02)
    return running.output()


def _predict(address: tuple[str, int], seconds: float) -> tuple[int | str, float]:
    """What POST /predict gave, and when."""
    answer = ask_once(address, "/predict", seconds, method="POST", body=FEATURES)
    return answer.status or type(answer.error).__name__, time.monotonic()


def _knock(
    address: tuple[str, int], sent: list[Future[tuple[int | str, float]]], seconds: float, clock: FairClock
) -> list[tuple[float, socket.socket | None]]:
    """Open new connections, each with a request, one after the other until the requests in flight have their answers.

    With several workers a connection can be opened and yet never served: the port stays open until the last worker has
    ended. So no answer is waited for here.
    """
    opened: list[tuple[float, socket.socket | None]] = []
    deadline = time.monotonic() + seconds
    while not all(future.done() for future in sent) and time.monotonic() < deadline:
        at, knock = time.monotonic(), None
        with contextlib.suppress(OSError):
            knock = socket.create_connection(address, timeout=1)
            knock.sendall(b"GET /health HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n")
        opened.append((at, knock))
        clock.seconds()
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
