"""The house's style, as far as a program can tell: lint, format and types."""

from __future__ import annotations

import subprocess
import sys

import pytest

from checks.harness import ROOT

COMMANDS = {
    "lint": ["ruff", "check", "--no-cache", "--quiet"],
    "format": ["ruff", "format", "--check", "--no-cache", "--quiet"],
    "types": ["mypy", "--no-incremental"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_found(name: str) -> None:
    """The tool has nothing to say."""
    command = [sys.executable, "-m", *COMMANDS[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
