"""Where what a learner's function returns was made, as a card names the line. Out of a cell it is advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from checks.harness.cell import made
from checks.harness.judge.handles import beside
from checks.harness.workspace import Workspace


def where_made(workspace: Workspace, function: Callable[..., Any], *args: Any) -> str | None:
    """The learner's `return` line that made what this call returns, perhaps in a function below."""
    return named(workspace, beside(function, made).line_that_made(function, *args))


def where_constant(
    workspace: Workspace,
    function: Callable[..., Any],
    calls: Sequence[Sequence[Any]],
    wanted: Sequence[Any],
    right: float,
) -> str | None:
    """The line of the constant that makes these calls return something else than wanted: it should be `right`."""
    return named(workspace, beside(function, made).constant_that_mends(function, calls, wanted, right))


def named(workspace: Workspace, line: Any) -> str | None:
    """A line of a cell's as a card names it; None where it is no line, or none of the learner's."""
    match line:
        case (str(path), int(number), str(function)) | [str(path), int(number), str(function)]:
            return workspace.where_line(Path(path), number, function)
    return None
