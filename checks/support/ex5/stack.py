"""Checkpoint 5.4: what compose.yaml starts, with which limits, and the load test beside it."""

from __future__ import annotations

from checks.harness.containers import stack_rules as rules
from checks.harness.containers.compose import Stack
from checks.harness.containers.spec import API, Container, Files
from checks.harness.errors import Failure, LearnerError, Needs, StubError

LEAST_MEMORY = 32 << 20
"""Bytes of memory below which no service of this lab can start: a process of the solution takes twice that."""
_LIMIT_KEYS = {"cpu": ("cpus", "cpu_shares", "cpu_quota"), "memory": ("mem_limit", "mem_reservation")}
"""Keys of a service that a learner writes for a limit."""
LOAD = "load"
"""The profile of the load test."""


def container_of(files: Files) -> Container:
    """What compose starts as `api`.

    Raises:
        Needs: the Dockerfile cannot be used, as 5.1 reports.
    """
    try:
        return files.container
    except StubError as error:
        raise Needs("5.1", "there is no Dockerfile yet") from error
    except LearnerError as error:
        raise Needs("5.1", error.failure.seen.splitlines()[0]) from error


def assert_api_is_built_here(files: Files, stack: Stack) -> None:
    """`docker compose up` builds the learner's service and starts it, without a profile."""
    assert API in stack.services, Failure(
        f"compose.yaml starts {', '.join(stack.services) or 'nothing'}",
        wanted="a service named `api`: yours",
        hint="`services:`, below it `api:`, and below that `build: .`.",
        where="compose.yaml:1",
    )
    api = stack.services[API]
    context = (api.get("build") or {}).get("context", "")
    assert context == str(files.tree), Failure(
        f"`api` is built in {context}" if context else "`api` is not built here",
        wanted="`build: .`: the image of the Dockerfile beside compose.yaml, with your last change",
        hint="`build: .` in place of " + ("that folder." if context else "`image:`."),
        where=stack.line(API, "build", "image"),
    )
    profiles = api.get("profiles") or ()
    assert not profiles, Failure(
        f"`api` starts only with the profile {', '.join(profiles)}",
        wanted="`api` without a profile: it must start every time",
        hint="Delete `profiles` from `api`: only the load test has one.",
        where=stack.line(API, "profiles"),
    )


def assert_limits(stack: Stack) -> None:
    """`api` cannot take the whole machine."""
    missing = [
        name for name, value in zip(("cpu", "memory"), rules.limits(stack.services[API]), strict=True) if not value
    ]
    assert not missing, Failure(
        f"`api` has no limit of {', '.join(missing)}",
        wanted="limits of CPU and memory: `deploy: resources: limits:`, or `cpus` and `mem_limit`",
        hint=_limits_hint(stack, missing),
        where=stack.line(API, *_LIMIT_KEYS[missing[0]], "limits", "reservations", "cpus", "mem_limit"),
    )
    _, memory = rules.limits(stack.services[API])
    assert memory >= LEAST_MEMORY, Failure(
        f"`api` may use {memory / 2**20:.3g} MB of memory",
        wanted=f"at least {LEAST_MEMORY >> 20} MB: one process with FastAPI takes about twice that. A process that "
        "exceeds the limit is killed",
        hint="A number without a unit is bytes, `k` is kilobytes: `512M` is 512 MB.",
        where=stack.line(API, "memory", "mem_limit"),
    )


def _limits_hint(stack: Stack, missing: list[str]) -> str:
    """What mends limits that are missing: not given, or given so that they limit nothing."""
    api = stack.services[API]
    if any(name in api for name in ("cpu_shares", "mem_reservation", "memswap_limit")):
        return "`cpu_shares` is a weight, and `mem_reservation` a minimum: `cpus` and `mem_limit` are limits."
    given = next((key for kind in missing for key in _LIMIT_KEYS[kind] if key in api), "")
    if given:
        return f"`{given}: {api[given]}` means no limit: give it a number above 0."
    return "Put `cpus` and `memory` below `limits:`. Below `reservations:` they are a minimum, and limit nothing."


def assert_grace_is_longer_than_drain(container: Container, stack: Stack, default: float) -> None:
    """The engine waits longer than requests may take to finish. `default` is the drain of lab/settings.py."""
    drain = rules.drain_seconds(container, default)
    assert container.stop_grace_seconds > drain, Failure(
        f"docker kills `api` {container.stop_grace_seconds:g} s after the signal, and requests have up to {drain:g} s "
        "to finish (LAB_DRAIN_SECONDS)",
        wanted="a `stop_grace_period` that is longer than the drain. Both are 10 s by default",
        hint=f"`stop_grace_period: {drain + 5:g}s` in `api`.",
        where=container.stop_grace_at or stack.line(API),
    )


def assert_locust_stands_by(stack: Stack, port: int) -> None:
    """Behind the profile `load` there are a Locust master and its workers, as many as wanted, which load `api`."""
    master, worker = _locust(stack)
    for one, other in ((API, master), (worker, master)):
        _assert_reach_each_other(stack, one, other)
    _assert_worker_can_be_scaled(stack, worker)
    for name in (master, worker):
        _assert_loads_the_api(stack, name, port, has_master=name == worker)
    host = rules.option(stack.services[worker], ("--master-host",), "LOCUST_MASTER_NODE_HOST")
    assert host in {master, *rules.names(stack.services[master])}, Failure(
        f"`{worker}` looks for its master at {host or '127.0.0.1, the default'}",
        wanted=f"`{master}`: the name of the master's service",
        hint=f"`--master-host {master}` in the command of `{worker}`.",
        where=stack.line(worker, "master-host", "MASTER_NODE_HOST", "command"),
    )
    for name in (master, worker):
        _assert_waits_for_health(stack, name)
    targets = [one.get("target") for one in stack.services[API].get("ports") or ()]
    assert not targets or port in targets, Failure(
        f"`api` publishes port {', '.join(map(str, targets))} of its container, and listens on {port}",
        wanted=f"port {port} of the container is published",
        hint=f'`"8000:{port}"`: the port of your machine, then the port of the container.',
        where=stack.line(API, "ports"),
    )


def _locust(stack: Stack) -> tuple[str, str]:
    """The names of Locust's master and worker."""
    behind = {name: one for name, one in stack.services.items() if LOAD in (one.get("profiles") or ())}
    found = []
    for role in ("master", "worker"):
        names = [name for name, one in behind.items() if rules.is_locust(one, role)]
        without = [n for n, one in stack.services.items() if n not in behind and rules.is_locust(one, role)]
        assert len(names) < 2, Failure(
            f"the profile `{LOAD}` has {len(names)} services with `--{role}`: {', '.join(names)}",
            wanted=f"one service with `--{role}`" + (": `--scale` starts more copies of it" * (role == "worker")),
            hint=f"Delete `{names[-1]}`" + (": `--scale worker=4` starts four of one." * (role == "worker") or "."),
            where=stack.line(names[-1]),
        )
        assert len(names) == 1, Failure(
            f"the profile `load` has {'the services ' if behind else ''}{', '.join(behind) or 'no service'}, and no "
            f"Locust {role}",
            wanted=f"one service with `--{role}`: a master that sums up, and workers that send requests",
            hint=f"`profiles: [load]` in `{without[0]}`." if without else f"`--{role}` in the command of one service.",
            where=stack.line(without[0]) if without else stack.line(next(iter(behind), API), "command"),
        )
        found += names
    return found[0], found[1]


def _assert_reach_each_other(stack: Stack, one: str, other: str) -> None:
    """Two services are in one network of the stack, where each knows the other by its name."""
    outside = next((name for name in (one, other) if stack.services[name].get("network_mode")), None)
    assert not outside, Failure(
        f"`{outside}` has `network_mode: {stack.services[outside or one].get('network_mode')}`",
        wanted="the network of the stack: services reach each other by name only there",
        hint=f"Delete `network_mode` from `{outside}`.",
        where=stack.line(outside or one, "network_mode"),
    )
    first, second = (rules.networks(stack.services[name]) for name in (one, other))
    assert first & second, Failure(
        f"`{one}` is in the network {', '.join(sorted(first))}, `{other}` in {', '.join(sorted(second))}",
        wanted="both in one network: services reach each other by name only there",
        hint="Delete `networks` from both: then they are in the stack's own network.",
        where=stack.line(other if "default" in first else one, "networks"),
    )


def _assert_worker_can_be_scaled(stack: Stack, worker: str) -> None:
    service = stack.services[worker]
    assert not service.get("container_name"), Failure(
        f"`{worker}` has a container_name",
        wanted="no container_name: workers are scaled, and only one container can have that name",
        hint=f"Delete `container_name` from `{worker}`.",
        where=stack.line(worker, "container_name"),
    )
    fixed = rules.fixed_ports(service)
    assert not fixed, Failure(
        f"`{worker}` takes port {', '.join(fixed)} of the machine",
        wanted="no port of its own: workers are scaled, and only one container can have that port",
        hint=f"Delete `ports` from `{worker}`: only the master has a web page.",
        where=stack.line(worker, "ports"),
    )


def _assert_loads_the_api(stack: Stack, name: str, port: int, *, has_master: bool) -> None:
    host = rules.option(stack.services[name], ("--host", "-H"), "LOCUST_HOST").rstrip("/")
    from_master = has_master and not host  # a master sends the host to its workers, at every start
    assert from_master or host == f"http://api:{port}", Failure(
        f"`{name}` loads {host or 'no host'}",
        wanted=f"http://api:{port}: the service by its name, and the port inside its container",
        hint=f"`--host http://api:{port}`. In a container localhost is the container itself, and a published port "
        "exists only on your machine.",
        where=stack.line(name, "host", "HOST", "command"),
    )


def _assert_waits_for_health(stack: Stack, name: str) -> None:
    where = stack.line(name, "links", "depends_on")
    assert "links" not in stack.services[name], Failure(
        f"`{name}` has `links`",
        wanted="no `links`: the services of a stack reach each other by name without them",
        hint=f"Delete `links` from `{name}`.",
        where=where,
    )
    assert rules.waits_for_health(stack.services, name, API), Failure(
        f"`{name}` starts before `api` is healthy",
        wanted="`condition: service_healthy`, in `depends_on` of this service or of one that it waits for",
        hint="The long form waits for health: `depends_on: {api: {condition: service_healthy}}`. A list waits only "
        "until the container has started.",
        where=where,
    )
