"""Checkpoint 5.3: what happens to requests in flight when the service is asked to end."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from contextlib import suppress

from checks.harness.containers.deploy import Deployments
from checks.harness.containers.deployed import Running, url
from checks.harness.containers.graceful_stop import Farewell, TooLate, farewell
from checks.harness.containers.spec import Container
from checks.harness.containers.startup import until_it_answers
from checks.harness.errors import Failure, Inconclusive, LearnerError, Needs, StubError, cut
from checks.harness.machine import load_in_words
from checks.harness.processes.servers import just_one_process
from checks.harness.processes.workers import all_pids

FINE = {0, 128 + 15, -15}
"""Exit codes of a service that ended because it was asked to."""
WORK_SECONDS = 2.0
"""How long a request may take and still has to be finished by a service that was asked to end."""
SHORTEST_GRACE = 10.0
"""Seconds of grace that a service gets here at least: whether compose gives it enough is the subject of 5.4."""
EXEC = (
    'Exec form, `CMD ["python", "-m", "lab.serve"]`, makes the server process 1. In shell form, or at the end of a '
    "script, `exec python -m lab.serve` puts the server in the place of the shell."
)
PIPE = (
    'Exec form, `CMD ["python", "-m", "lab.serve"]`, makes the server process 1. In shell form use `exec python -m '
    "lab.serve` without a pipe: with one the shell stays process 1, and starts the server as its child."
)


def start(deploy: Deployments, workers: int, work_seconds: float) -> Running:
    """The service with so many workers and requests of that length, wherever it listens.

    Raises:
        Needs: it does not start, or cannot be reached, as 5.2 reports.
    """
    try:
        # The address is the subject of 5.2.
        service = deploy(WEB_CONCURRENCY=str(workers), LAB_INFERENCE_SECONDS=str(work_seconds), HOST="0.0.0.0")
        until_it_answers(service, anywhere=True)
    except StubError:
        raise
    except LearnerError as error:
        raise Needs("5.2", error.failure.seen.splitlines()[0]) from error
    service.grace = max(service.grace, SHORTEST_GRACE)
    return service


def while_at_work(deploy: Deployments, workers: int, first: Running | None = None) -> tuple[Running, Farewell]:
    """A service, and what happened when it was asked to end in the middle of its work.

    `first` is one that was started before, with requests of `WORK_SECONDS`.
    """
    for seconds in (WORK_SECONDS, 3 * WORK_SECONDS):  # the longer one for a machine on which everything takes long
        service, first = first or start(deploy, workers, seconds), None
        found = len(all_pids(url(service), workers, 0 if just_one_process(service.output()) else 15))
        deploy.say("asks the service to end while it works")
        with suppress(TooLate):
            seen = farewell(service, seconds, found)
            if _is_conclusive(seen, service.grace, last=seconds > WORK_SECONDS):
                return service, seen
    raise Inconclusive(f"this machine is too busy ({load_in_words()}) to ask the service to end while it works")


def _is_conclusive(seen: Farewell, grace: float, *, last: bool) -> bool:
    """Whether what was seen is the service's own doing, and not a slow machine's."""
    if not seen.heeded:
        return True
    if seen.lost_after is not None:
        # From WORK_SECONDS on the service need not have finished, and on a busy machine it may have been too late.
        return seen.lost_after < WORK_SECONDS or (seen.lost_after >= seen.left and not seen.busy)
    if not seen.turned_away and seen.busy:  # it may not have got to run since the signal, also where it was killed
        return False
    return last or ((seen.turned_away or seen.seconds > grace) and seen.left > 0.85 * WORK_SECONDS)


def assert_signal_is_heeded(service: Running, seen: Farewell) -> None:
    """Process 1 does something with the signal, or an init passes it on."""
    container = service.container
    assert seen.heeded, Failure(
        f"process 1 is `{cut(seen.first)}` and does not handle {container.stop_signal}. The kernel drops "
        f"{container.stop_signal} for process 1 if it has no handler. So the server never gets it, and after "
        f"{container.stop_grace_seconds:g} s everything is killed",
        wanted="the server is process 1, or process 1 passes the signal on to it",
        hint=exec_hint(container),
        where=line_of_process_1(container),
    )


def assert_all_are_answered(service: Running, seen: Farewell) -> None:
    """Each request in flight gets its 200."""
    others = Counter(answer for answer in seen.answers if answer != 200)
    hint, where = _why_lost(service.container, seen)
    assert seen.answered == len(seen.answers), Failure(
        f"of {len(seen.answers)} requests in flight {seen.answered} got their 200, the others {_in_words(others)}, the "
        f"first {seen.lost_after or 0:.1f} s after the signal; {signal_in_words(service.container, seen)}",
        wanted=f"a 200 for each: the server gets the signal, and finishes requests of up to {WORK_SECONDS:g} s",
        hint=hint,
        where=where,
    )


def assert_new_connections_are_refused(service: Running, seen: Farewell) -> None:
    """A service that ends takes on no new work."""
    hint, where = _why_unheeded(service.container)
    assert seen.turned_away, Failure(
        f"after the signal the service accepted all {seen.asked} new connections while it finished its work; "
        + signal_in_words(service.container, seen),
        wanted="new connections soon get no answer any more: the server got the signal, and takes no more work",
        hint=hint,
        where=where,
    )


def assert_it_ends(service: Running, seen: Farewell) -> None:
    """It ends by itself, within its grace time, and with the exit code of a service that was asked to."""
    if seen.exit_code not in FINE and seen.busy:
        raise Inconclusive(f"this machine is too busy ({load_in_words()}) for a service to end in {service.grace:g} s")
    how = f"was killed after {service.grace:g} s" if seen.killed else f"ended with exit code {seen.exit_code}"
    assert seen.exit_code in FINE, Failure(
        f"the service answered its requests and {how}; {signal_in_words(service.container, seen)}",
        wanted="it ends by itself within its grace time, with exit code 0 or 143",
        hint=_why_unheeded(service.container)[0] if seen.killed else "",
        where=_why_unheeded(service.container)[1],
    )


def assert_lifespan_ends(service: Running, seen: Farewell) -> None:
    """The app's startup ran in each worker, and so does its shutdown."""
    silent = seen.servers == 0  # logs that do not show a start do not show an end either
    where = service.container.argv_at
    assert silent or seen.started, Failure(
        "uvicorn started, and the app's startup did not run",
        wanted="the lifespan runs: startup and shutdown",
        hint="`--lifespan off` skips it. Delete it.",
        where=where,
    )
    assert silent or seen.finished >= seen.started, Failure(
        f"{seen.started} workers ran the app's startup, and {seen.finished} of them ran its shutdown",
        wanted="all of them: the shutdown closes connections and writes buffers",
        where=where,
    )


def signal_in_words(container: Container, seen: Farewell) -> str:
    """Which signal was sent, who chose it, and which process got it."""
    chosen = "stop_signal" if container.stop_signal_at.startswith("compose.yaml") else "STOPSIGNAL"
    name = f"{container.stop_signal} ({chosen})" if container.stop_signal_at else container.stop_signal
    return f"{name} goes to process 1, `{'init, then ' if container.init else ''}{cut(seen.first)}`"


def exec_hint(container: Container) -> str:
    """What makes the server process 1, or puts it in the place of the shell that is."""
    for text in (" ".join(container.argv), *container.scripts.values()):
        with suppress(ValueError):  # a quote that is not closed
            if "|" in shlex.shlex(text.replace("\n", ";"), posix=True, punctuation_chars=True):
                return PIPE
    return EXEC


def line_of_process_1(container: Container) -> str:
    """The line that makes a shell process 1: the last command of a script that it runs, or the one that starts it."""
    for name, text in container.scripts.items():
        lines = [*enumerate(text.splitlines(), 1)]
        starts = [(n, line) for n, line in lines if re.search(r"python|uvicorn|gunicorn|\$@", line.partition("#")[0])]
        if starts:
            return f"{name}:{starts[-1][0]}\n    {starts[-1][1].strip()}"
    return container.argv_at


def _why_unheeded(container: Container) -> tuple[str, str]:
    """What to change where the server goes on as if there had been no signal, and the line."""
    if container.stop_signal in ("SIGTERM", "SIGINT"):
        return exec_hint(container), line_of_process_1(container)
    hint = (
        f"Delete the line that sets {container.stop_signal}: after SIGTERM, the default, uvicorn finishes its requests."
    )
    return hint, container.stop_signal_at


def _why_lost(container: Container, seen: Farewell) -> tuple[str, str]:
    """What to change where requests were lost, and the line."""
    if container.stop_signal not in ("SIGTERM", "SIGINT"):
        return _why_unheeded(container)
    if seen.killed and (seen.lost_after or 0) > 1:
        return exec_hint(container), line_of_process_1(container)
    if 500 in seen.answers or (seen.lost_after or 0) > 0.5:
        option = re.search(r"--timeout-graceful-shutdown|--graceful-timeout", " ".join(container.argv))
        name = option[0] if option else "LAB_DRAIN_SECONDS"
        return (
            f"`{name}` is the time in which requests can finish after the signal. It must be longer than the longest "
            "request: a request that is not finished by then ends in a 500.",
            container.argv_at if option else container.line_of("LAB_DRAIN_SECONDS"),
        )
    return exec_hint(container), line_of_process_1(container)


def _in_words(others: Counter[int | str]) -> str:
    """What came in place of an answer."""
    words = {"RemoteDisconnected": "a closed connection", "ConnectionResetError": "a closed connection"}
    return ", ".join(f"{words.get(str(what), what)} ({number})" for what, number in others.items())
