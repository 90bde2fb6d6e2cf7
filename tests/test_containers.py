"""Exercise 5 on a real Docker engine: the solution, named answers that only a container tells apart, and the stack."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from checks.harness import ROOT
from checks.harness.containers.compose import command, read_compose
from checks.harness.containers.engine import LABEL, answering
from checks.harness.containers.spec import Files
from checks.harness.processes.servers import free_port
from checks.harness.workspace import open_workspace
from tests.exercises import EXERCISES
from tests.runs import Judged, judge
from tests.test_wrong_answers import ANSWERS, Answer

SOLUTIONS = ROOT / "solutions"
EXERCISE = EXERCISES[5]
LIVE = {name: answer for name, answer in ANSWERS.items() if answer.live}
STACK = "lab-test-stack"
LOCUST = 'FROM python:3.12-slim\nRUN pip install --no-cache-dir locust\nENTRYPOINT ["locust"]\n'
"""Stands in for Locust's own image, which needs a registry."""
ENGINE = answering()

pytestmark = pytest.mark.skipif(not ENGINE, reason="no Docker engine answers")


@dataclass(frozen=True)
class Alive:
    """An answer, judged by the checkpoint that needs a real container."""

    answer: Answer

    def run(self, folder: Path) -> Judged:
        """Judge it."""
        self.answer.write(folder / "workspace")
        return judge(folder, folder / "workspace", EXERCISE.path, "-k", "5.5", engine=True)


@dataclass(frozen=True)
class Solution:
    """The solution, judged by all five."""

    def run(self, folder: Path) -> Judged:
        """Judge it."""
        return judge(folder, SOLUTIONS, EXERCISE.path, engine=True)


@pytest.mark.parametrize("case", [Solution()], ids=["solution"])
def test_the_solution_earns_all_ten_points(case: Solution, run: Judged) -> None:
    """Built, started, asked, frozen and stopped for real."""
    assert dict.fromkeys(run.verdicts, "passed") == run.verdicts, run.card
    assert sum(checkpoint["points"] for checkpoint in run.checkpoints.values()) == 10


@pytest.mark.parametrize("case", [Alive(answer) for answer in LIVE.values()], ids=LIVE)
def test_an_image_gets_the_verdict_it_deserves(case: Alive, run: Judged) -> None:
    """What is wrong in a container fails there, in words that fit."""
    told = run.checkpoints["5.5"]

    assert told["verdict"] == ("failed" if case.answer.fails else "passed"), run.card
    for words in case.answer.says:
        assert re.search(words, told["seen"]), run.card


def test_nothing_is_left_behind(engine: DockerClient) -> None:
    """After runs that ended well and badly no container and no network of the lab is there any more."""
    assert engine.containers.list(all=True, filters={"label": LABEL}) == []
    assert engine.networks.list(filters={"label": LABEL}) == []


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    """The engine itself."""
    client = DockerClient(ENGINE)
    yield client
    client.close()


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
    done = subprocess.run(up, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    assert ask(f"http://127.0.0.1:{env['PORT']}/health")["status"] == "ok"
    until(lambda: ask(f"{MASTER}/stats/requests")["worker_count"] == 2, "two workers")
    ask(f"{MASTER}/swarm", user_count="4", spawn_rate="4", host="http://api:8000")
    until(lambda: ask(f"{MASTER}/stats/requests")["stats"][0]["num_requests"] >= 20, "20 requests")
    seen = ask(f"{MASTER}/stats/requests")

    assert seen["fail_ratio"] == 0
    assert {one["name"] for one in seen["stats"]} == {"/predict", "Aggregated"}


MASTER = "http://127.0.0.1:8089"


def ask(url: str, **form: str) -> dict[str, Any]:
    """What a page says; a form is posted."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data=data, timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if holds():
                return
        time.sleep(0.2)
    pytest.fail(f"no {what} within {seconds:g} s")
