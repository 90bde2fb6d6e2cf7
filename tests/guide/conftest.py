"""What the tests of the guide share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from checks.harness import ROOT

LEARNERS = ("lab", "loadtests", "Dockerfile", "compose.yaml", ".dockerignore")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace with the stubs."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in LEARNERS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder
