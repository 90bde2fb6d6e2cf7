"""Exercise 5 on a real Docker engine: the solution, named answers that only a container tells apart, and the stack."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from checks.harness import ROOT
from checks.harness.containers.compose import command, read_compose
from checks.harness.containers.engine import LABEL, answering, lives
from checks.harness.containers.spec import Files
from checks.harness.processes.servers import free_port
from checks.harness.workspace import open_workspace
from tests.answers import LIVE, SOLUTIONS, Answer, Case
from tests.exercises import EXERCISES
from tests.runs import judge
from tests.waiting import finished, until

EXERCISE = EXERCISES[5]
STACK = "lab-test-stack"
LOCUST = 'FROM python:3.12-slim\nRUN pip install --no-cache-dir locust\nENTRYPOINT ["locust"]\n'
"""Stands in for Locust's own image, which needs a registry."""
ENGINE = answering()

pytestmark = [
    pytest.mark.skipif(not ENGINE, reason="no Docker engine answers"),
    pytest.mark.exhaustive,
    pytest.mark.cost(100),
]


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    """The engine itself."""
    client = DockerClient(ENGINE)
    yield client
    client.close()


@pytest.fixture
def nothing_left(engine: DockerClient) -> Iterator[None]:
    """After a run that ended well or badly none of its containers and networks is there any more."""
    yield
    labels = [container.labels[LABEL] for container in engine.containers.list(all=True, filters={"label": LABEL})]
    labels += [network.attrs["Labels"][LABEL] for network in engine.networks.list(filters={"label": LABEL})]

    assert [label for label in labels if not lives(label)] == []


@pytest.mark.usefixtures("nothing_left")
def test_the_solution_earns_all_ten_points(tmp_path: Path) -> None:
    """Built, started, asked, frozen and stopped for real."""
    run = judge(tmp_path, SOLUTIONS, EXERCISE.path, engine=True, shared=False)

    run.assert_verdicts(dict.fromkeys(run.verdicts, "passed"))
    assert sum(checkpoint["points"] for checkpoint in run.checkpoints.values()) == 10


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("answer", LIVE.values(), ids=LIVE)
def test_an_image_gets_the_verdict_it_deserves(answer: Answer, tmp_path: Path) -> None:
    """What is wrong in a container fails there, in words that fit; what is right is also started and ended well."""
    case = Case(answer, ("5.5",) if answer.fails else ("5.2", "5.3", "5.5"))

    case.assert_deserved(case.run(tmp_path))


@pytest.fixture
def stack(engine: DockerClient, tmp_path: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The solution's stack, its images built: how compose is called for it, and in which environment."""
    folder = open_workspace(ROOT, SOLUTIONS, tmp_path / "stack").tree
    context = Files(folder, ROOT, tmp_path).context
    engine.images.build(path=str(context), tag=f"{STACK}-api", network_mode="host", rm=True)
    (tmp_path / "Dockerfile").write_text(LOCUST)
    image = read_compose(folder).services["master"]["image"]
    engine.images.build(path=str(tmp_path), tag=image, network_mode="host", rm=True)
    env = {"DOCKER_HOST": ENGINE or "", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PORT": str(free_port())}
    call = [*command(), "--project-name", STACK, "--project-directory", str(folder), "--profile", "load"]
    yield call, env
    subprocess.run([*call, "down", "--timeout", "20", "--volumes"], env=env, check=True, capture_output=True)
    engine.images.remove(f"{STACK}-api", force=True)


def test_the_stack_runs_and_is_loaded(stack: tuple[list[str], dict[str, str]]) -> None:
    """`up --wait` makes it healthy; a master and two workers join, their load reaches it, and all is answered."""
    call, env = stack
    up = [*call, "up", "--detach", "--no-build", "--wait", "--scale", "worker=2"]
    done = finished(up, 120, env=env)
    assert done.returncode == 0, done.stderr

    assert ask(f"http://127.0.0.1:{env['PORT']}/health")["status"] == "ok"
    until(lambda: seen("worker_count") == 2, "two workers of Locust")
    ask(f"{MASTER}/swarm", user_count="4", spawn_rate="4", host="http://api:8000")
    until(lambda: seen("stats")[0]["num_requests"] >= 20, "20 requests")

    assert seen("fail_ratio") == 0
    assert {one["name"] for one in seen("stats")} == {"/predict", "Aggregated"}


MASTER = "http://127.0.0.1:8089"


def ask(url: str, **form: str) -> dict[str, Any]:
    """What a page says; a form is posted."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data=data, timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def seen(figure: str) -> Any:
    """What Locust's master says of its load; None before it answers."""
    with contextlib.suppress(OSError):
        return ask(f"{MASTER}/stats/requests")[figure]
    return None
