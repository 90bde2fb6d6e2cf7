"""The checkpoints of an exercise as their markers in `checks/` have them: the only source of points in a grade."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from checks.harness import ROOT
from checks.harness.grading.checkpoints import headline_of, parts_of

EXERCISES = tuple(
    sorted(int(path.stem.removeprefix("test_ex")) for path in (ROOT / "checks").glob("test_ex*.py"))
)  # fmt: skip


@dataclass(frozen=True)
class Marker:
    """What a grade needs to know of a checkpoint. `needs` are the ids that have to pass before it."""

    id: str
    title: str
    points: int
    needs: tuple[str, ...]


def path_of(exercise: int) -> str:
    """The file of its checkpoints, from the root of the lab."""
    return f"checks/test_ex{exercise}.py"


def headline(exercise: int) -> tuple[str, str]:
    """Its title, and what it is about."""
    return headline_of(ast.get_docstring(_tree(exercise)))


@cache
def markers(exercise: int) -> list[Marker]:
    """Its checkpoints from the first to the last. The file is read and not run: markers are literals."""
    functions = [node for node in _tree(exercise).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [found for node in functions if (found := _marker(node))]


@cache
def _tree(exercise: int) -> ast.Module:
    return ast.parse((ROOT / path_of(exercise)).read_text(encoding="utf-8"))


def _marker(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Marker | None:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.checkpoint":
            said = {keyword.arg: keyword.value for keyword in mark.keywords}
            title, _ = parts_of(ast.get_docstring(node))
            needs = tuple(ast.literal_eval(said["needs"])) if "needs" in said else ()
            return Marker(ast.literal_eval(mark.args[0]), title, ast.literal_eval(said["points"]), needs)
    return None
