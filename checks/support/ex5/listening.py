"""Checkpoint 5.2: where the service listens, how many workers it has, and what its health check sees."""

from __future__ import annotations

import re
import time

from checks.harness.containers.deploy import Deployments
from checks.harness.containers.deployed import Ended, Running, url
from checks.harness.containers.spec import Container
from checks.harness.errors import Failure, Inconclusive, LearnerError
from checks.harness.machine import BUSY, CORES, FairClock, load, load_in_words
from checks.harness.processes.servers import just_one_process
from checks.harness.processes.workers import all_pids

START_SECONDS = 45.0
"""How long it may take from the first worker's answer until all have answered."""
MORE_SECONDS = 10.0
"""How long more workers than wanted are looked for."""
CHECK_SECONDS = 60.0
"""How long a command beside the service may take."""
FROZEN_SECONDS = 10.0
"""How long a check of a frozen service is waited for on an idle machine. If it has not ended by then, it has failed."""


WHY_HEALTH = (
    "Only the health check shows a machine whether a service works. If it fails without reason, a good service gets no "
    "requests. If it cannot fail, a service that hangs keeps getting them."
)
"""Why a health check matters: the checkpoint's own reason is about addresses and ports."""


def is_busy(clock: FairClock) -> bool:
    """Whether the machine was too busy, since the clock started or in the last minute, for a bound on real time."""
    return clock.busy or load() >= BUSY * CORES


def assert_workers(service: Running, wanted: int) -> None:
    """As many workers answer as WEB_CONCURRENCY says."""
    clock = FairClock()
    found = _count_workers(service, wanted, clock)
    died = "Child process" in service.output() and "died" in service.output()
    if found < wanted and (died or is_busy(clock)) and not just_one_process(service.output()):
        raise Inconclusive(f"this machine is too busy ({load_in_words()}): {found} of {wanted} workers have started")
    container = service.container
    assert found == wanted, Failure(
        f"with WEB_CONCURRENCY={wanted} {found} workers answer" if found != 1 else _one_worker(wanted),
        wanted=f"{wanted}: the number of different pids at /health is the number in WEB_CONCURRENCY",
        hint=_worker_hint(container),
        where=container.argv_at,
    )


def _one_worker(wanted: int) -> str:
    return f"with WEB_CONCURRENCY={wanted} 1 worker answers"


def _count_workers(service: Running, wanted: int, clock: FairClock) -> int:
    """How many workers answer: all of them, also where they are more than wanted."""
    deadline = time.monotonic() + (0 if just_one_process(service.output()) else START_SECONDS)
    found = all_pids(url(service), wanted, 0)
    while len(found) < wanted and time.monotonic() < deadline:
        clock.seconds()
        found |= all_pids(url(service), wanted, 1)
    if len(found) < wanted or just_one_process(service.output()):
        return len(found)
    # One more than wanted shows that the number is not the one in WEB_CONCURRENCY; then count the others, too.
    found |= all_pids(url(service), wanted + 1, MORE_SECONDS if wanted == 1 else 0)
    return len(found if len(found) <= wanted else found | all_pids(url(service), 4 * wanted, 2))


def _worker_hint(container: Container) -> str:
    """What sets another number than WEB_CONCURRENCY."""
    text = "\n".join([" ".join(container.argv), *container.scripts.values()])
    if "--reload" in text:
        return "Delete `--reload`: it runs one process and restarts it at each change. It is for development only."
    if option := re.search(r"--workers\b|(?<!\w)-w\b", text):
        return f"Delete `{option[0]}` from the command: without it the server takes the number in WEB_CONCURRENCY."
    if "WEB_CONCURRENCY=" in text:
        return "The command sets WEB_CONCURRENCY. Delete that: the environment sets it."
    if "lab.serve" in text:
        return (
            "`lab/serve.py` takes WEB_CONCURRENCY from the environment and passes it to uvicorn as `workers`: see 4.2."
        )
    return "uvicorn and gunicorn read WEB_CONCURRENCY from the environment. Does the command pass it on?"


def assert_health_check_succeeds(service: Running) -> None:
    """The service's own health check finds it at its port."""
    container, clock = service.container, FairClock()
    if not container.health:  # 5.1 reports that
        return
    ended = _check(service, CHECK_SECONDS)
    if ended.code is None or re.search("timed out|TimeoutError", _last_line(ended)):  # its own time limit may be short
        ended = _check(service, CHECK_SECONDS)
        if ended.code != 0 and is_busy(clock):
            raise Inconclusive(f"this machine is too busy ({load_in_words()}) for a health check with a time limit")
    how = "did not end" if ended.code is None else f"ends with exit code {ended.code}"
    line = _last_line(ended)
    test = " ".join(container.health.test)
    fixed = re.search(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0)['\", ]*:?[, ]*(\d{2,5})\b", test)
    hint = ""
    if "404" in line:
        hint = "The path is `/health`."
    elif fixed:
        hint = f"It always asks port {fixed[1]}. Use PORT: `os.environ['PORT']` in Python, `$PORT` in shell form."
    elif "KeyError" in line:
        hint = "`os.environ.get('PORT', '8000')`, or set PORT with ENV."
    elif "/health" not in test and not container.files_named_in(test):
        hint = blind_check_hint(test)
    assert ended.code == 0, Failure(
        f"with PORT={service.port} the health check {how}: {line[:150]}",
        wanted="exit code 0: it requests /health at the port in PORT",
        hint=hint,
        where=container.health.where,
        why=WHY_HEALTH,
    )


def assert_health_check_sees_a_frozen_service(service: Running, deploy: Deployments) -> None:
    """The health check fails when every process of the service stands still. On an engine 5.5 asserts that."""
    health = service.container.health
    if not health or deploy.on_engine:
        return
    service.freeze()
    # A check that cannot fail must have the time to end, also on a busy machine.
    ended = _check(service, min(health.timeout, FROZEN_SECONDS) * max(1.0, load() / CORES))
    assert ended.code != 0, Failure(
        "with every process of the service stopped (SIGSTOP) the health check still ends with exit code 0",
        wanted="a check that fails when the service gives no answer to GET /health",
        hint=blind_check_hint(" ".join(health.test)),
        where=health.where,
        why=WHY_HEALTH,
    )


def blind_check_hint(test: str) -> str:
    """Why a health check does not see that the service stands still."""
    if end := re.search(r"(\|\||;)\s*(true|:|exit 0)\s*$", test):
        return f"Delete `{end[0].strip()}` at the end: with it every check succeeds."
    if re.search(r"connect|/dev/tcp|\bnc\b", test):
        return "The kernel accepts connections also for a stopped process. Request /health, and wait for the answer."
    if fixed := re.search(r":(\d{2,5})\b", test):
        return f"It asks port {fixed[1]}, where another program may answer. Use the port in PORT."
    return "Request /health and wait for the answer: `urllib.request.urlopen(..., timeout=2)` raises without one."


def _last_line(ended: Ended) -> str:
    return (ended.output.strip().splitlines() or ["it printed nothing"])[-1]


def _check(service: Running, seconds: float) -> Ended:
    """Run the service's health check beside it."""
    health = service.container.health
    assert health
    kind, *words = health.test
    try:
        return service.run(["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words, seconds)
    except LearnerError as error:
        raise LearnerError(
            f"the health check cannot be run: {error.failure.seen}",
            health.where,
            hint=error.failure.hint,
            why=WHY_HEALTH,
        ) from error
