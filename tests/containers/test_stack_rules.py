"""What a service of compose.yaml says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from checks.harness.containers import stack_rules as rules


@pytest.mark.parametrize(
    ("service", "cpus", "megabytes"),
    [
        ({"deploy": {"resources": {"limits": {"cpus": 0.5, "memory": "1048576"}}}}, 0.5, 1),
        ({"cpus": 2, "mem_limit": "2097152"}, 2, 2),
        ({"deploy": {"resources": {"reservations": {"cpus": 1, "memory": "1048576"}}}}, 0, 0),
        ({"deploy": None}, 0, 0),
    ],
)
def test_limits(service: dict[str, Any], cpus: float, megabytes: float) -> None:
    """In the long form or the short one; a reservation is none."""
    assert (cpus, megabytes * 2**20) == rules.limits(service)


def test_options_of_a_locust() -> None:
    """From its command, however it is written, or from its environment."""
    by_shell = {"command": ["sh", "-c", "locust --worker --master-host=master"]}
    by_environment = {"environment": {"LOCUST_MODE_WORKER": "true", "LOCUST_MASTER_NODE_HOST": "master"}}

    for service in (by_shell, by_environment):
        assert rules.is_locust(service, "worker")
        assert not rules.is_locust(service, "master")
        assert "master" == rules.option(service, ("--master-host",), "LOCUST_MASTER_NODE_HOST")
    assert ["it's"] == rules.words({"command": ["it's"]})
    assert ["a", "it's"] == rules.words({"command": ["a it's"]})


def test_ports_that_only_one_container_can_have() -> None:
    """A range can be shared, and so can one that the engine chooses."""
    ports = [{"published": "8089"}, {"published": "8090-8099"}, {"published": "0"}, {"target": 80}]

    assert ["8089"] == rules.fixed_ports({"ports": ports})


def test_waiting_for_health_through_others() -> None:
    """Through a service that does, also where services wait for each other in a circle."""
    healthy, started = {"condition": "service_healthy"}, {"condition": "service_started"}
    services: dict[str, dict[str, Any]] = {
        "api": {},
        "master": {"depends_on": {"api": healthy}},
        "worker": {"depends_on": {"master": started}},
        "a": {"depends_on": {"b": started}},
        "b": {"depends_on": {"a": started, "api": started}},
    }

    assert rules.waits_for_health(services, "worker", "api")
    assert not rules.waits_for_health(services, "a", "api")
