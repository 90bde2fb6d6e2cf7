"""What the files of checkpoints say of themselves, as the tests ask for it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property

from checks.harness.grading import markers
from checks.harness.options import TAKE_THEIR_CODE


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a `checks/test_exN.py`."""

    id: str
    function: str
    fixtures: frozenset[str]
    docstring: str
    points: int
    hints: int

    @property
    def in_cell(self) -> bool:
        """Whether it takes the learner's code, which runs in a cell."""
        return bool(TAKE_THEIR_CODE & self.fixtures)

    @property
    def needs_engine(self) -> bool:
        """Whether it is locked where no Docker engine answers: it builds the image and starts it, come what may."""
        return {"image", "deploy"} <= self.fixtures


@dataclass(frozen=True)
class Exercise:
    """One file of checkpoints."""

    number: int
    path: str

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return markers.tree(self.number)

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints from the first to the last."""
        return [_checkpoint(marker) for marker in markers.markers(self.number)]


def _checkpoint(marker: markers.Marker) -> Checkpoint:
    hints = marker.said.get("hints")
    return Checkpoint(
        id=marker.id,
        function=marker.function.name,
        fixtures=frozenset(argument.arg for argument in marker.function.args.args),
        docstring=ast.get_docstring(marker.function) or "",
        points=marker.points,
        hints=len(hints.elts) if isinstance(hints, ast.Tuple) else 0,
    )


EXERCISES = {number: Exercise(number, markers.path_of(number)) for number in markers.EXERCISES}
