"""What several of the lab's own tests use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


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


Judge = Callable[..., Judged]


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A workspace of its own with the solutions in it, for a test to spoil."""
    return shutil.copytree(ROOT / "solutions", tmp_path / "workspace", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(workspace, "checks/test_ex1.py", "-k", "1.4")` runs checkpoints as a learner does."""

    def run(workspace: Path | None, *arguments: str, timeout: float = 180, env: dict[str, str] | None = None) -> Judged:
        results = tmp_path / "results.json"
        command: Sequence[str] = [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--results={results}"),
            *([f"--workspace={workspace}"] if workspace else []),
            *arguments,
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}
        )
        told = json.loads(results.read_text()) if results.exists() else {"exercises": []}
        return Judged(done.returncode, done.stdout + done.stderr, told)

    return run
