"""What a service of compose.yaml says: its limits, its Locust role, the options of its command, what it waits for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from checks.harness.containers.spec import Container

Service = Mapping[str, Any]
"""A service as compose reads it."""


def limits(service: Service) -> tuple[float, float]:
    """The limits of CPU (cores) and memory (bytes), 0 where there is none. A reservation is no limit."""
    found = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    cpus, memory = found.get("cpus") or service.get("cpus") or 0, found.get("memory") or service.get("mem_limit") or 0
    quota, period = float(service.get("cpu_quota") or 0), float(service.get("cpu_period") or 100_000)
    return max(float(cpus), quota / period, 0), max(float(memory), 0)


def drain_seconds(container: Container, default: float) -> float:
    """Seconds that requests get to finish at the end: by uvicorn's option, else the environment, else `default`."""
    option = re.search(r"--(?:timeout-graceful-shutdown|graceful-timeout)[= ](\d+)", " ".join(container.argv))
    value = option[1] if option else container.environment.get("LAB_DRAIN_SECONDS", "")
    return float(value) if re.fullmatch(r"\d+(\.\d*)?", value) else default


def words(service: Service) -> list[str]:
    """The words of its command, those that it passes to a shell among them."""
    found = [str(word) for part in ("entrypoint", "command") for word in service.get(part) or ()]
    try:
        return [word for one in found for word in (shlex.split(one) if " " in one else [one])]
    except ValueError:  # quotes without an end
        return [word for one in found for word in one.split()]


def is_locust(service: Service, role: str) -> bool:
    """Whether it is a Locust in that role ("master", "worker"), by its command or its environment."""
    value = str((service.get("environment") or {}).get(f"LOCUST_MODE_{role.upper()}") or "")
    return f"--{role}" in words(service) or value.lower() in ("1", "true", "yes")


def option(service: Service, names: Sequence[str], variable: str) -> str:
    """The value of an option of its command, else of a variable of its environment, else ""."""
    found = words(service)
    for number, word in enumerate(found):
        name, given, value = word.partition("=")
        if name in names:
            return value if given else found[number + 1] if number + 1 < len(found) else ""
    return str((service.get("environment") or {}).get(variable) or "")


def names(service: Service) -> list[str | None]:
    """The names by which other services reach it, beside its own."""
    networks = (service.get("networks") or {}).values()
    aliases = [name for network in networks for name in (network or {}).get("aliases") or ()]
    return [service.get("container_name"), service.get("hostname"), *aliases]


def networks(service: Service) -> set[str]:
    """The networks of the stack that it is in; none where it uses the machine's own, or has no network."""
    return set() if service.get("network_mode") else set(service.get("networks") or ("default",))


def fixed_ports(service: Service) -> list[str]:
    """The ports of the machine that only one container of it can have: neither a range nor a free one."""
    published = [str(port.get("published") or "") for port in service.get("ports") or ()]
    return [port for port in published if port.isdecimal() and port != "0"]


def waits_for_health(services: Mapping[str, Service], name: str, target: str, seen: tuple[str, ...] = ()) -> bool:
    """Whether it starts only once `target` is healthy: it waits for that, or for a service that does."""
    for other, wait in (services[name].get("depends_on") or {}).items():
        if other == target and wait.get("condition") == "service_healthy":
            return True
        if other in (target, *seen) or other not in services:
            continue
        if waits_for_health(services, other, target, (*seen, name)):
            return True
    return False
