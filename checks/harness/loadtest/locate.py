"""Where the parts of a locustfile are: found in its text, because importing it would bring Locust into this process."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from checks.harness.errors import Failure, StubError
from checks.harness.workspace import Workspace

LOCUSTFILE = "loadtests/locustfile.py"

USED_BY = {
    "PACE_SECONDS": "wait_time",
    "STEPS": "tick",
    "STEP_USERS": "tick",
    "STEP_SECONDS": "tick",
    "SLO_MS": "gate",
    "DEADLINE_MS": "task",
}
"""Which part uses a constant of the locustfile."""

Definition = ast.ClassDef | ast.FunctionDef


def where_part(workspace: Workspace, part: str) -> str | None:
    """The learner's line of the "task", of "wait_time", of "tick" or of the "gate", or else of the user class.

    Any other `part` is the name of a constant; one that reads the environment is right, and what uses it is not.
    """
    path = workspace.tree / LOCUSTFILE
    found = _nodes(path, part)
    if part in USED_BY and any("environ" in ast.unparse(node) or "getenv" in ast.unparse(node) for node in found):
        found = _nodes(path, USED_BY[part])
    found = found or _nodes(path, "user")
    return workspace.where_line(path, found[0].lineno) if found else None  # type: ignore[attr-defined]


def where_limit(workspace: Workspace, number: str, right: float) -> str | None:
    """The gate's comparison with `number`, or the constant in it, if that is not `right`; None where it has none."""
    path = workspace.tree / LOCUSTFILE
    for gate in _nodes(path, "gate"):
        for node in ast.walk(gate):
            if isinstance(node, ast.Compare) and number in {getattr(one, "attr", "") for one in ast.walk(node)}:
                names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                wrong = [one for name in names for one in _nodes(path, name) if _is_another_number(one, right)]
                return workspace.where_line(path, (wrong or [node])[0].lineno)  # type: ignore[attr-defined]
    return None


def where_key(workspace: Workspace, key: str) -> str | None:
    """The function of the locustfile that takes the value of this key from an answer: its first line that does."""
    path = workspace.tree / LOCUSTFILE
    keys = [
        node.slice if isinstance(node, ast.Subscript) else node.args[0]
        for node in _nodes(path, "taken")
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Call) and node.args)
    ]
    found = [one.lineno for one in keys if isinstance(one, ast.Constant) and one.value == key]
    return workspace.where_line(path, min(found)) if found else None


def not_found(workspace: Workspace, part: str, what: str, wanted: str, where: str | None) -> Failure:
    """Locust has found no class of that part, "user" or "shape": at its `abstract = True`, which leaves it out."""
    path = workspace.tree / LOCUSTFILE
    for one in _nodes(path, part):
        for node in one.body:  # type: ignore[attr-defined]  # a class
            if ast.unparse(node) == "abstract = True":
                seen, at = (
                    f"{what}: it leaves out a class with `abstract = True`",
                    workspace.where_line(path, node.lineno),
                )
                return Failure(seen, wanted, "Delete the line `abstract = True`.", at)
    return Failure(what, wanted, where=where)


def require_written(workspace: Workspace, parts: Iterable[str]) -> None:
    """Raise `StubError` for the first of these parts that is still the stub: no load test has to run to see that.

    A part is one of `where_part`'s, or a function of lab/breaking_point.py.
    """
    for part in parts:
        for path in (workspace.tree / LOCUSTFILE, workspace.tree / "lab/breaking_point.py"):
            for node in _nodes(path, part):
                if raised := _stub(node):
                    words, line = raised
                    raise StubError(words, workspace.where_line(path, line, getattr(node, "name", "<module>")))


def is_written(workspace: Workspace, parts: Iterable[str]) -> bool:
    """Whether none of these parts is still the stub."""
    try:
        require_written(workspace, parts)
    except StubError:
        return False
    return True


def _nodes(path: Path, part: str) -> list[ast.AST]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    return [node for node in ast.walk(tree) if _is(node, part)]


def _is(node: ast.AST, part: str) -> bool:
    decorators = [ast.unparse(one) for one in node.decorator_list] if isinstance(node, Definition) else []
    match part, node:
        case "task", ast.FunctionDef():
            return any(one.startswith("task") for one in decorators)
        case "gate", ast.FunctionDef():
            return node.name == "slo_gate" or any("quitting" in one for one in decorators)
        case "user", ast.ClassDef():
            return any("User" in ast.unparse(base) for base in node.bases)
        case "shape", ast.ClassDef():
            return any("LoadTestShape" in ast.unparse(base) for base in node.bases)
        case "taken", ast.Subscript():
            return True
        case "taken", ast.Call(func=ast.Attribute(attr="get")):
            return True
        case _, ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name == part
        case _:
            return isinstance(node, ast.FunctionDef) and node.name == part


def _is_another_number(node: ast.AST, right: float) -> bool:
    match node:
        case ast.Assign(value=ast.Constant(value=int() | float() as value)):
            return value != right
    return False


def _stub(node: ast.AST) -> tuple[str, int] | None:
    """The words and the line of a function that raises `NotImplementedError` before it does anything else."""
    if not isinstance(node, ast.FunctionDef):
        return None
    first = node.body[1:2] if ast.get_docstring(node) is not None else node.body[:1]
    match first:
        case [ast.Raise(exc=ast.Call(func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=words)]))]:
            return str(words), first[0].lineno
        case _:
            return None
