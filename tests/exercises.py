"""What the files of checkpoints say of themselves, read without running them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property

from checks.harness import ROOT


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a `checks/test_exN.py`."""

    id: str
    function: str
    fixtures: frozenset[str]
    docstring: str
    points: int
    hints: int
    in_cell: bool
    """Whether the learner's code runs in another interpreter than its judge."""

    @property
    def needs_engine(self) -> bool:
        """Whether it is locked where no Docker engine answers: it builds the image and starts it, come what may."""
        return {"image", "deploy"} <= self.fixtures


@dataclass(frozen=True)
class Exercise:
    """One file of checkpoints."""

    number: int
    path: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse((ROOT / self.path).read_text())

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints from the first to the last."""
        functions = [node for node in self.tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return [found for node in functions if (found := _checkpoint(node))]


def _checkpoint(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Checkpoint | None:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.checkpoint":
            said = {keyword.arg: keyword.value for keyword in mark.keywords}
            hints = said.get("hints")
            return Checkpoint(
                id=ast.literal_eval(mark.args[0]),
                function=node.name,
                fixtures=frozenset(argument.arg for argument in node.args.args),
                docstring=ast.get_docstring(node) or "",
                points=ast.literal_eval(said["points"]),
                hints=len(hints.elts) if isinstance(hints, ast.Tuple) else 0,
                in_cell="in_cell" in said,
            )
    return None


EXERCISES = {
    number: Exercise(number, f"checks/test_ex{number}.py")
    for number in range(1, 6)
    if (ROOT / f"checks/test_ex{number}.py").exists()
}
