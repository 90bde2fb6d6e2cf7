"""The lessons: which step of an exercise is about which files and checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ID = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table under *The work*: what to write where, and the checkpoints that pass then.

    `passes` are their ids. `marked` are the ids that the stubs of this step bear: those, and at times one more.
    """

    number: int
    files: tuple[str, ...]
    write: str
    passes: tuple[str, ...]
    marked: tuple[str, ...]


def path(root: Path, exercise: int) -> Path:
    """The file of an exercise's lesson."""
    return root / "lessons" / f"ex{exercise}.md"


def lesson(root: Path, exercise: int) -> str:
    """The text of an exercise's lesson."""
    return path(root, exercise).read_text(encoding="utf-8")


def all_steps(root: Path) -> list[Step]:
    """The steps of all lessons."""
    return [step for lesson in sorted((root / "lessons").glob("ex*.md")) for step in steps(lesson.read_text("utf-8"))]


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level; empty if there is none of that title."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def steps(text: str) -> list[Step]:
    """The steps of a lesson. A row without a file is about that of the row above."""
    found: list[Step] = []
    for line in section(text, "The work").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 4 or not cells[0].isdigit():
            continue
        files = tuple(re.findall(r"`([^`]+)`", cells[1])) or (found[-1].files if found else ())
        passes = tuple(_ID.findall(cells[3].partition("(")[0]))
        marked = tuple(dict.fromkeys(_ID.findall(cells[3])))
        found.append(Step(int(cells[0]), files, cells[2], passes, marked))
    return found
