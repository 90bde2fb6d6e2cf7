"""The checkpoints of an exercise as their file in `checks/` has them. It is read and not run: markers are literals."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from checks.harness import ROOT
from checks.harness.grading.checkpoints import headline_of, parts_of

EXERCISES = tuple(sorted(int(path.stem.removeprefix("test_ex")) for path in (ROOT / "checks").glob("test_ex*.py")))


@dataclass(frozen=True)
class Marker:
    """A checkpoint: its function, and what the function's marker says, as source by keyword."""

    id: str
    function: ast.FunctionDef | ast.AsyncFunctionDef
    said: Mapping[str | None, ast.expr]

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return parts_of(ast.get_docstring(self.function))[0]

    @property
    def why(self) -> str:
        """The rest of the docstring."""
        return parts_of(ast.get_docstring(self.function))[1]

    @property
    def points(self) -> int:
        """The only source of points in a grade."""
        return int(self._value("points", 0))

    @property
    def needs(self) -> tuple[str, ...]:
        """The ids that have to pass before it."""
        return tuple(self._value("needs", ()))

    def _value(self, name: str, default: Any) -> Any:
        return ast.literal_eval(self.said[name]) if name in self.said else default


def path_of(exercise: int) -> str:
    """The file of its checkpoints, from the root of the lab."""
    return f"checks/test_ex{exercise}.py"


def headline(exercise: int) -> tuple[str, str]:
    """Its title, and what it is about."""
    return headline_of(ast.get_docstring(tree(exercise)))


@cache
def markers(exercise: int) -> list[Marker]:
    """Its checkpoints from the first to the last."""
    functions = [node for node in tree(exercise).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [found for node in functions if (found := _marker(node))]


@cache
def tree(exercise: int) -> ast.Module:
    """The syntax tree of its file."""
    return ast.parse((ROOT / path_of(exercise)).read_text(encoding="utf-8"))


def _marker(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Marker | None:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.checkpoint":
            said = {keyword.arg: keyword.value for keyword in mark.keywords}
            return Marker(ast.literal_eval(mark.args[0]), node, said)
    return None
