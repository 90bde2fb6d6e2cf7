"""What a build gets to see: a working copy as learners have it, less what .dockerignore keeps out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from checks.harness.errors import LearnerError, StubError
from checks.harness.workspace import handwritten

GIVEN = ("pyproject.toml", "uv.lock", "README.md", "LICENSE")
"""What an image may be built from beside the learner's own files."""
DECOYS = (
    ".git/HEAD",
    ".venv/pyvenv.cfg",
    "tests/test_it.py",
    "checks/test_it.py",
    "solutions/lab/service.py",
    ".pytest_cache/CACHEDIR.TAG",
    ".ruff_cache/CACHEDIR.TAG",
    ".mypy_cache/CACHEDIR.TAG",
    "lab/__pycache__/service.cpython-312.pyc",
)
"""What lies in a working copy, too, and belongs into no context."""


def make_context(tree: Path, root: Path, folder: Path) -> Path:
    """Put into `folder` the learner's files in `tree`, what is given in `root`, and the `DECOYS`."""
    shutil.copytree(tree, folder, dirs_exist_ok=True)
    for given in GIVEN:
        if (root / given).is_file():
            shutil.copy(root / given, folder)
    for decoy in DECOYS:
        (folder / decoy).parent.mkdir(parents=True, exist_ok=True)
        (folder / decoy).write_text("for nobody's image\n")
    return folder


def patterns(folder: Path) -> list[str]:
    """The lines of .dockerignore, comments left out; none where there is no such file.

    Raises:
        StubError: it holds nothing but comments.
    """
    path = folder / ".dockerignore"
    if not path.is_file():
        return []
    lines = [line.strip() for line in handwritten(path).splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if lines and not found:
        raise StubError("5.1: .dockerignore", ".dockerignore:1")
    return found


def included(folder: Path, dockerfile: str = "Dockerfile") -> set[str]:
    """The files of a context that reach the engine, as paths with slashes: Docker's own rules for .dockerignore.

    Raises:
        LearnerError: a line of it is no pattern.
    """
    from docker.utils.build import exclude_paths

    try:
        paths: set[str] = exclude_paths(str(folder), patterns(folder), dockerfile)
    except re.error as error:
        raise LearnerError(
            f"a line of .dockerignore is no pattern: {error}\nwanted: file names, with `*`, `?` and `**`",
            ".dockerignore",
            explains_itself=True,
        ) from error
    return {path.replace("\\", "/") for path in paths if (folder / path).is_file()}
