"""The context of a build: a working copy as learners have it, without what .dockerignore excludes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from checks.harness.errors import LearnerError, StubError
from checks.harness.workspace import handwritten

GIVEN = ("pyproject.toml", "uv.lock", "README.md", "LICENSE")
"""Files of the lab that an image may be built from, beside the learner's own."""
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
"""Files that every working copy has, and that no build needs."""


def make_context(tree: Path, root: Path, folder: Path) -> Path:
    """Copy to `folder` the learner's files in `tree` and the `GIVEN` ones in `root`, and add the `DECOYS`."""
    shutil.copytree(tree, folder, dirs_exist_ok=True)
    for given in GIVEN:
        if (root / given).is_file():
            shutil.copy(root / given, folder)
    for decoy in DECOYS:
        (folder / decoy).parent.mkdir(parents=True, exist_ok=True)
        (folder / decoy).write_text("not for an image\n")
    return folder


def patterns(folder: Path) -> list[str]:
    """The lines of .dockerignore without comments; none where there is no such file.

    Raises:
        StubError: it holds only comments.
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
    """The files of a context that are sent to the engine, as paths with slashes, by Docker's own rules.

    Raises:
        LearnerError: a line of .dockerignore is no pattern.
    """
    from docker.utils.build import exclude_paths

    try:
        paths: set[str] = exclude_paths(str(folder), patterns(folder), dockerfile)
    except re.error as error:
        raise LearnerError(
            f"a line of .dockerignore is not a pattern: {error}",
            ".dockerignore",
            wanted="file names, with `*`, `?` and `**`",
            explains_itself=True,
        ) from error
    return {path.replace("\\", "/") for path in paths if (folder / path).is_file()}
