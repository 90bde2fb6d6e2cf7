"""What several of the lab's own tests use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests import runs
from tests.exercises import ROOT

Judge = Callable[..., runs.Judged]


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A workspace of its own with the solutions in it, for a test to spoil."""
    return shutil.copytree(ROOT / "solutions", tmp_path / "workspace", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(workspace, "checks/test_ex1.py", "-k", "1.4")` runs checkpoints as a learner does."""
    return partial(runs.judge, tmp_path)
