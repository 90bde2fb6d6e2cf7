"""Where the parts of a locustfile are: found in its text, because importing it would bring Locust into this process."""

from __future__ import annotations

import ast

from checks.harness.loadtest.locust_run import LOCUSTFILE
from checks.harness.workspace import Workspace

Definition = ast.ClassDef | ast.FunctionDef


def where_part(workspace: Workspace, part: str) -> str | None:
    """The learner's line of the "task", of "wait_time", of "tick" or of the "gate", or else of the user class."""
    path = workspace.tree / LOCUSTFILE
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    found = [node for node in ast.walk(tree) if _is(node, part)] or [n for n in ast.walk(tree) if _is(n, "user")]
    return workspace.where_line(path, found[0].lineno) if found else None  # type: ignore[attr-defined]


def _is(node: ast.AST, part: str) -> bool:
    decorators = [ast.unparse(one) for one in node.decorator_list] if isinstance(node, Definition) else []
    match part, node:
        case "task", ast.FunctionDef():
            return any(one.startswith("task") for one in decorators)
        case "gate", ast.FunctionDef():
            return any("quitting" in one for one in decorators)
        case "wait_time", ast.Assign(targets=[ast.Name(id="wait_time")]):
            return True
        case "user", ast.ClassDef():
            return any("User" in ast.unparse(base) for base in node.bases)
        case _:
            return isinstance(node, ast.FunctionDef) and node.name == part
