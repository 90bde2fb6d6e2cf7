"""A stub that a checkpoint has reached: the next thing to write, or one of a later exercise that is used too early."""

from __future__ import annotations

import ast
import re

from checks.harness.errors import Failure
from checks.harness.source_lines import SourceLines


def stub_reached(words: str, where: str, lines: SourceLines, checkpoint: str) -> Failure:
    """What is said of the stub that raised `NotImplementedError(words)` at `where` while that checkpoint ran.

    Words such as `4.3: lifespan` name the checkpoint that waits for it.
    """
    named = re.fullmatch(r"((\d+)\.\d+): (.*)", words)
    exercise = int(checkpoint.partition(".")[0] or 0)
    if named is None or not exercise or int(named[2]) <= exercise:
        return Failure(words or "a stub that is still to be filled in", where=where)
    stub = named[3].rpartition(".")[2] if " " not in named[3] else named[3]
    return Failure(
        f"your code uses `{stub}`, a stub that belongs to a later checkpoint: {named[1]}, in exercise {named[2]}",
        wanted=f"exercise {exercise} without it",
        hint=f"Leave `{stub}` out for now: delete what uses it, and put it back in exercise {named[2]}.",
        where=_where_used(stub, lines) or where,
    )


def _where_used(name: str, lines: SourceLines) -> str | None:
    """The first line of the learner's modules, lab/service.py before others, that uses what has this name."""
    modules = sorted((lines.tree / "lab").glob("*.py"), key=lambda path: (path.name != "service.py", path.name))
    for path in modules:
        try:
            tree = ast.parse(path.read_text(errors="replace"))
        except (OSError, SyntaxError, ValueError):
            continue
        used = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
        for line in sorted(used):
            if where := lines.where_line(path, line):
                return where
    return None
