"""Which exercises and checkpoints there are, read from `checks/test_exN.py` without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab_guide.lessons import Step, path, steps


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the marker and the docstring of a checkpoint say."""

    id: str
    title: str
    why: str
    points: int
    needs: list[str]


@dataclass(frozen=True, slots=True)
class Exercise:
    """One file of checkpoints, and the steps of its lesson."""

    number: int
    title: str
    checkpoints: list[Checkpoint]
    steps: list[Step]

    @property
    def ids(self) -> list[str]:
        """The numbers of its checkpoints."""
        return [c.id for c in self.checkpoints]

    @property
    def quick(self) -> bool:
        """Whether it takes seconds, so that a save may run all of it: nothing in it runs Locust."""
        return self.number not in (3, 4)


def catalogue(root: Path) -> list[Exercise]:
    """All exercises, in their order."""
    return [_exercise(root, file) for file in sorted((root / "checks").glob("test_ex*.py"))]


def touched(exercises: list[Exercise], files: set[str], chosen: int) -> int:
    """The exercise that a change of these files is about: the chosen one, unless all of them are another one's."""
    about = [e.number for e in exercises if files & {file for step in e.steps for file in step.files}]
    return chosen if chosen in about or not about else about[0]


def _exercise(root: Path, file: Path) -> Exercise:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    number = int(re.sub(r"\D", "", file.stem))
    title = _docstring(tree)[0].partition(" - ")[2]
    title = title[:1].upper() + title[1:]
    lesson = path(root, number).read_text(encoding="utf-8")
    return Exercise(number, title, list(_checkpoints(tree)), steps(lesson))


def _checkpoints(tree: ast.Module) -> Iterator[Checkpoint]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.checkpoint":
                said = {keyword.arg: keyword.value for keyword in mark.keywords}
                title, why = _docstring(node)
                needs = list(ast.literal_eval(said["needs"])) if "needs" in said else []
                name, points = ast.literal_eval(mark.args[0]), ast.literal_eval(said["points"])
                yield Checkpoint(name, title, why, points, needs)


def _docstring(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, str]:
    """The first line without its full stop, and the rest as one paragraph."""
    title, _, rest = (ast.get_docstring(node) or "").partition("\n")
    return title.strip().rstrip("."), " ".join(rest.split())
