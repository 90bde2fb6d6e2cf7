"""Checkpoint 5.5: the image and its container on a real engine."""

from __future__ import annotations

import time

from checks.harness.containers.deployed import last_lines
from checks.harness.containers.docker_service import Running, until_health
from checks.harness.containers.graceful_stop import Farewell
from checks.harness.containers.image_build import Built
from checks.harness.containers.spec import Container
from checks.harness.errors import Failure, Inconclusive
from checks.harness.machine import load_in_words
from checks.support.ex5.ending import exec_hint, line_of_process_1, signal_in_words
from checks.support.ex5.image import HEALTH_CHECK
from checks.support.ex5.listening import blind_check_hint

ADDED_MB = 200
"""MB that an image may add to its base."""
BLIND_CHECKS = 3
"""Health checks in a row that succeed while nothing can answer: then they see nothing."""
HEALTHY_SECONDS = 60.0
FROZEN_SECONDS = 120.0
SLOW = 4.0
"""Seconds for a command that takes 0.3 s on an idle machine: from then on a health check with 8 s may fail for that."""


def assert_small(built: Built, where: str) -> None:
    """The image adds little to its base."""
    assert built.added_mb < ADDED_MB, Failure(
        f"the image adds {built.added_mb:.0f} MB to its base of {built.base_size / 1e6:.0f} MB",
        wanted=f"less than {ADDED_MB} MB: only what the service needs, without the tools that install it",
        hint="Install in a stage of its own (`uv sync --locked --no-dev`), and copy only the environment from it.",
        where=where,
    )


def assert_has_a_health_check(container: Container) -> None:
    """There is a health check to judge."""
    assert container.health, Failure(
        "there is no health check",
        wanted="HEALTHCHECK, or a `healthcheck` in compose.yaml",
        hint=f"`HEALTHCHECK {HEALTH_CHECK}`.",
        where=container.health_at or container.argv_at,
    )


def assert_not_root(frozen: Running) -> None:
    """Process 1 runs as a user of its own."""
    container = frozen.container
    assert frozen.uid() != "0", Failure(
        "the service runs as root",
        wanted="a non-root user, so that an attacker who gets in has no root rights",
        hint="`USER app` in the last stage.",
        where=container.user_at or container.argv_at,
    )


def assert_becomes_healthy(frozen: Running) -> None:
    """The engine's health checks find a service that answers."""
    status = until_health(frozen, "healthy", HEALTHY_SECONDS)
    if status != "healthy":
        raise_if_slow(frozen)
    health = frozen.container.health
    assert status == "healthy", Failure(
        f"the service answers, and the engine calls it {status}: {_last_check(frozen)}",
        wanted="a health check that gets an answer from /health",
        hint=f"`HEALTHCHECK {HEALTH_CHECK}`.",
        where=health.where if health else None,
    )


def assert_unhealthy_when_frozen(frozen: Running) -> float:
    """The engine notices a service that stands still. Returns after how many seconds."""
    started = time.monotonic()
    frozen.freeze()
    blind, health = _checks_that_succeed(frozen), frozen.container.health
    assert blind < BLIND_CHECKS, Failure(
        f"with every process stopped (SIGSTOP) {blind} health checks in a row still succeeded",
        wanted="unhealthy: the check waits for an answer from /health, and fails without one",
        hint=blind_check_hint(" ".join(health.test)) if health else "",
        where=health.where if health else None,
    )
    raise_if_slow(frozen)
    return time.monotonic() - started


def assert_stops_well(service: Running, seen: Farewell) -> None:
    """`docker stop` loses no request."""
    where = line_of_process_1(service.container)
    assert seen.answered == len(seen.answers), Failure(
        f"`docker stop`: of {len(seen.answers)} requests in flight {seen.answered} got their 200; "
        f"{signal_in_words(service.container, seen)}{last_lines(service)}",
        wanted="a 200 for each: see 5.3",
        hint=exec_hint(service.container),
        where=where,
    )
    assert seen.turned_away, Failure(
        f"`docker stop`: the service accepted all {seen.asked} new connections, and was killed in the end; "
        + signal_in_words(service.container, seen),
        wanted="the server itself is process 1, and gets the signal: see 5.3",
        hint=exec_hint(service.container),
        where=where,
    )


def raise_if_slow(service: Running) -> None:
    """Raise `Inconclusive` where a command in the container takes too long: health checks then fail for that alone."""
    started = time.monotonic()
    service.run(["python", "-c", "import urllib.request"], 60)
    took = time.monotonic() - started
    if took > SLOW:
        raise Inconclusive(
            f"this machine is too busy ({load_in_words()}): a command in the container took {took:.1f} s"
        )


def _last_check(service: Running) -> str:
    """The last health check's exit code and last line."""
    _, log = service.health()
    if not log:
        return "no check has ended yet"
    lines = log[-1]["Output"].strip().splitlines() or ["it printed nothing"]
    return f"exit code {log[-1]['ExitCode']}, {lines[-1][:150]}"


def _checks_that_succeed(service: Running) -> int:
    """How many checks succeeded since it was frozen; 0 as soon as the engine calls it unhealthy."""
    before = {check["Start"] for check in service.health()[1]}
    ended, deadline = dict[str, int](), time.monotonic() + FROZEN_SECONDS
    while time.monotonic() < deadline:
        status, log = service.health()
        ended |= {check["Start"]: check["ExitCode"] for check in log if check["Start"] not in before}
        since = [*ended.values()][1:]  # the first may have begun before
        if status == "unhealthy" and len(since) > 1 and all(since[-2:]):
            return 0
        if (succeeded := since.count(0)) > BLIND_CHECKS:
            return succeeded
        time.sleep(0.2)
    raise Inconclusive(f"in {FROZEN_SECONDS:g} s the engine called a frozen container neither healthy nor unhealthy")
