"""Runs of checkpoints, as a learner's: the same pytest on a workspace, forked from a process that has the imports done.

Imports are two thirds of a short run, and there are more than a hundred of them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tests.exercises import ROOT

SECONDS = 180

WARM = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
WARM.set_forkserver_preload(["checks.harness.warm", "psutil", "pydantic_settings", "pytest", "rich.console"])

NOBODY = "unix:///nobody-listens-here"
"""The address of no Docker engine: only tests that are about one start containers."""

ASKING = Lock()
"""A start of one process asks after all the others, and of two that ask after one at once the second hears 255."""


@dataclass(frozen=True)
class Judged:
    """What a run of checkpoints left: exit code, the card, and the results."""

    exit_code: int
    card: str
    results: dict[str, Any]

    @property
    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """The checkpoints' results by id."""
        return {c["id"]: c for exercise in self.results["exercises"] for c in exercise["checkpoints"]}

    @property
    def verdicts(self) -> dict[str, str]:
        """The checkpoints' verdicts by id."""
        return {name: c["verdict"] for name, c in self.checkpoints.items()}


def judge(folder: Path, workspace: Path | None, *arguments: str, engine: str = NOBODY) -> Judged:
    """`pytest --workspace DIR ARGUMENTS`; `folder` is for what it leaves, `engine` the Docker engine that it finds."""
    results, output = folder / "results.json", folder / "output"
    every = ["-p", "no:cacheprovider", "-Wignore:Module already imported", f"--results={results}"]
    chosen = [f"--workspace={workspace}"] if workspace else []
    process = WARM.Process(target=_pytest, args=([*every, *chosen, *arguments], output, engine))
    with ASKING:
        process.start()
    ended = wait([process.sentinel], SECONDS)
    with ASKING:
        if not ended:
            process.kill()
        code = process.exitcode
    if not ended:
        pytest.fail(f"not judged within {SECONDS} s\n{output.read_text()}")
    assert results.exists(), output.read_text()
    return Judged(code or 0, output.read_text(errors="replace"), json.loads(results.read_text()))


def _pytest(arguments: list[str], output: Path, engine: str) -> None:
    """Run pytest in this process, which is there for nothing else."""
    os.environ["DOCKER_HOST"] = engine
    with output.open("w") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    os.chdir(ROOT)
    sys.exit(pytest.main(arguments))
