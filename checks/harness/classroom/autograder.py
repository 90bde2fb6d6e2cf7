"""The lab as a zip that another grader takes: Gradescope's, and in the same zip the one of Classroom 50.

What judges and what a learner starts from is in it, and neither the solutions nor the lab's own tests.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from checks.harness import ROOT

GRADERS = Path(__file__).with_name("graders")
"""What those graders start, with `@OPTIONS@` where options of `lab grade` stand."""

_FOLDERS = ("checks", "guide", "lab", "loadtests")
_FILES = (
    "conftest.py", "pyproject.toml", "uv.lock", "README.md", "LICENSE", "Dockerfile", "compose.yaml", ".dockerignore",
)  # fmt: skip
_DATE = (2020, 1, 1, 0, 0, 0)
"""The same files make the same zip, whenever it is made."""


def write_zip(path: Path, options: Sequence[str]) -> int:
    """Write the zip; `options` are those of `lab grade` there. The number of files in it."""
    names: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, runs in _contents(" ".join(options)):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if runs else 0o100644) << 16
            archive.writestr(entry, data)
            names.append(name)
    return len(names)


def _contents(options: str) -> Iterator[tuple[str, bytes, bool]]:
    """Name, bytes, and whether it is a program."""
    for path in sorted(GRADERS.iterdir()):
        if path.is_file():
            yield path.name, path.read_bytes().replace(b"@OPTIONS@", options.encode()), path.suffix != ".py"
    for name in _FILES:
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_bytes(), False
    for folder in _FOLDERS:
        for top, folders, files in os.walk(ROOT / folder):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
            for path in (Path(top, name) for name in sorted(files)):
                if path.suffix != ".pyc" and path.is_file():
                    yield path.relative_to(ROOT).as_posix(), path.read_bytes(), os.access(path, os.X_OK)
