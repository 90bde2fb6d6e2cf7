"""The house's style, as far as a program can tell: lint, format, types, and who may import whom."""

from __future__ import annotations

import re
import shutil
import sysconfig

import pytest

from checks.harness import ROOT
from tests.waiting import finished

COMMANDS = re.findall(r"entry: uv run (.+)", (ROOT / ".pre-commit-config.yaml").read_text())


SLOW = "mypy"  # half a minute where it has no cache; before a commit it has one, and there is a job of its own for it
MARKED = [pytest.param(one, marks=[pytest.mark.exhaustive] if one == SLOW else [], id=one) for one in COMMANDS]


@pytest.mark.parametrize("command", MARKED)
def test_nothing_is_found(command: str) -> None:
    """The hooks that run before a commit have nothing to say."""
    program, *arguments = command.split()
    found = shutil.which(program, path=sysconfig.get_path("scripts"))
    assert found, f"no {program} in this environment"
    done = finished([found, *arguments], 300)

    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_four_hooks() -> None:
    """Lint, format, types and layers."""
    assert ["ruff", "ruff", "mypy", "lint-imports"] == [command.split()[0] for command in COMMANDS]
