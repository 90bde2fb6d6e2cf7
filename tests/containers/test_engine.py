"""Whether an engine answers, and whose containers are whose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from checks.harness.containers import engine
from checks.harness.containers.image_build import Step, _base, _plain, _where
from checks.harness.errors import NotChecked


@pytest.mark.parametrize("url", ["unix:///no/engine", "tcp://127.0.0.1:9", "nonsense"])
def test_no_engine_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What waits for an engine is not checked, and says how to get one."""
    monkeypatch.setenv("DOCKER_HOST", url)

    with pytest.raises(NotChecked, match=r"not checked here: no Docker engine answers.*\nwanted: `docker info`"):
        engine.connect(tmp_path)


def test_an_engine_is_asked_for_once_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checkpoints of a run are judged in the same way."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/engine")
    engine.find(tmp_path)
    monkeypatch.setattr(engine, "_answers", lambda url: True)

    assert engine.find(tmp_path) is None


def test_a_run_that_is_over_is_known() -> None:
    """Its containers are nobody's any more; another machine's runs are left alone."""
    mine = engine.owner(os.getpid())
    machine, pid, started = mine.rsplit(" ", 2)

    assert engine.lives(mine)
    assert not engine.lives(f"{machine} {pid} {int(started) - 9}")
    assert not engine.lives(f"{machine} 99999999 {started}")
    assert not engine.lives("")
    assert engine.lives(f"another-{machine} {pid} 1")


def test_the_base_is_what_the_last_stage_stands_on() -> None:
    """A stage may stand on another, by name or by number."""
    steps = [
        Step("FROM python:3.12-slim AS base", made="aa"),
        Step("RUN true", made="ab"),
        Step("FROM python:3.11-slim", made="bb"),
        Step("FROM --platform=linux/amd64 base AS final", made="ab"),
        Step("COPY lab lab", made="ac"),
    ]

    assert "aa" == _base(steps)
    assert "" == _base([])


def test_a_failed_step_has_a_line() -> None:
    """The engine tells a step in one line, the Dockerfile may have it in three."""
    dockerfile = "FROM python:3.12-slim\n# RUN pip\nRUN pip install \\\n    fastapi\nRUNN x\n"

    assert "Dockerfile:3\n    RUN pip install \\" == _where(dockerfile, "RUN pip install     fastapi", "exit 1")
    assert "Dockerfile:5\n    RUNN x" == _where(dockerfile, "reading", "dockerfile parse error line 5: unknown")
    assert "Dockerfile" == _where(dockerfile, "COPY gone .", "exit 1")
    assert "red" == _plain("\x1b[91mred\x1b[0m")
