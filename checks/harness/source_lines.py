"""Names lines of the learner's: where an exception was raised, where a thread waits, where a function is defined."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import get_type_hints

from checks.harness.syntax import Is, first, first_reached, tree_of

_GIVEN = ("__init__", "settings", "errors", "routes", "recommender", "records", "batch_model", "decoder")
GIVEN = tuple(f"lab/{name}.py" for name in _GIVEN)
"""Files that a learner does not edit: they come from the lab, whatever the workspace holds in their place."""

LEARNERS = ("lab", "loadtests", "docker", "Dockerfile", "compose.yaml", ".dockerignore", ".env")
"""Where a learner may write: files, and folders with all below them."""

FRAMEWORK = (
    "starlette.routing",
    "starlette.applications",
    "starlette.middleware",
    "starlette._exception",
    "fastapi.routing",
)
"""Modules that carry a request from the server through the middleware to its handler."""

_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)(?:,)? in (\S+)|^\s*File "([^"]+)", line (\d+)', re.MULTILINE)

_RAISED = re.compile(r"^(\w[\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b.*)$", re.MULTILINE)


def last_raised(text: str) -> str:
    """The last exception in a traceback that was printed, such as `ValueError: no`; empty where there is none."""
    return next(reversed(_RAISED.findall(text)), "")


def assigned(tree: ast.Module) -> dict[str, int]:
    """The names that a module assigns at its top, with their lines."""
    found = dict[str, int]()
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node.lineno
    return found


def _begins(kind: object) -> tuple[Path, int]:
    """The file and the first line of a class of this process."""
    try:
        return Path(inspect.getsourcefile(kind) or ""), inspect.getsourcelines(kind)[1]  # type: ignore[arg-type]
    except (OSError, TypeError):
        return Path(), 0


RECURRING = 30
"""Times that a line stands in a traceback from which on it is the one that calls itself."""


@dataclass
class SourceLines:
    """The learner's lines below the folder `tree`.

    A line is named `lab/service.py:41 in predict`, with its text indented below; `None` stands for a line that is not
    the learner's.
    """

    tree: Path

    def where(self, code: CodeType, line: int) -> str | None:
        """A line of some code."""
        return self.where_line(Path(code.co_filename), line, code.co_name)

    def where_line(self, path: Path, line: int, function: str = "<module>") -> str | None:
        """A line of a file, as another process may report it."""
        if not path.is_relative_to(self.tree):
            return None
        relative = path.relative_to(self.tree)
        if relative.as_posix() in GIVEN or relative.parts[0] not in LEARNERS:
            return None
        text = linecache.getline(str(path), line).strip()
        inside = "" if function == "<module>" else f" in {function}"
        return f"{relative.as_posix()}:{line}{inside}" + (f"\n    {text}" if text else "")

    def where_frames(self, frames: Iterable[tuple[FrameType, int]]) -> str | None:
        """The deepest line of a stack given from the outside in, unless the framework took over below it.

        A middleware of the learner's is in every stack of a request. Where FastAPI fails below it, it is not the cause.
        """
        for frame, line in reversed([*frames]):
            if frame.f_globals.get("__name__", "").startswith(FRAMEWORK):
                break
            if found := self.where(frame.f_code, line):
                return found
        return None

    def where_raised(self, trace: TracebackType | None) -> str | None:
        """The line nearest to where an exception was raised; of a recursion the line that goes on with it."""
        frames = [*traceback.walk_tb(trace)]
        for (code, line), times in Counter((frame.f_code, line) for frame, line in frames).most_common(1):
            if times >= RECURRING and (found := self.where(code, line)):
                return found
        return self.where_frames(frames)

    def where_raised_again(self, trace: TracebackType | None) -> str | None:
        """The outermost `raise` that an exception has come through; None where it was not raised in such a line.

        One that was caught, kept and raised in another task has the lines of both in its traceback.
        """
        named = (self.where(frame.f_code, line) for frame, line in traceback.walk_tb(trace))
        return next((one for one in named if one and one.partition("\n")[2].lstrip().startswith("raise ")), None)

    def where_first(self, stacks: Iterable[Sequence[tuple[FrameType, int]]]) -> str | None:
        """The line in the first stack that has one."""
        return next(filter(None, map(self.where_frames, stacks)), None)

    def where_printed(self, text: str, *, innermost_last: bool = True) -> str | None:
        """The innermost line in a traceback that was printed: Python's own ends with it, faulthandler's begins."""
        frames = [(m[1] or m[4], int(m[2] or m[5]), m[3] or "<module>") for m in _FRAME.finditer(text)]
        found = (self.where_line(Path(path), line, function) for path, line, function in frames)
        lines = [line for line in found if line]
        return lines[-1 if innermost_last else 0] if lines else None

    def where_defined(self, thing: object) -> str | None:
        """The `def` or `class` line of something of the learner's, below its decorators."""
        try:
            code = getattr(inspect.unwrap(thing), "__code__", None)  # type: ignore[arg-type]  # what has none raises
            if code:  # inspect would look for its module among all that are loaded
                path, first = Path(code.co_filename), code.co_firstlineno
                lines = linecache.getlines(str(path))[first - 1 :]
            else:
                lines, first = inspect.getsourcelines(thing)  # type: ignore[arg-type]
                path = Path(inspect.getsourcefile(thing) or "")  # type: ignore[arg-type]
        except (OSError, TypeError, ValueError):
            return None
        starts = ("def ", "async def ", "class ")
        line = next((n for n, text in enumerate(lines) if text.lstrip().startswith(starts)), 0)
        return self.where_line(path, first + line)

    def where_field(self, kind: object, name: str) -> tuple[str | None, str | None]:
        """The line of a class's field with its annotation, and that of the module's own name in it, if there is one."""
        code = getattr(kind, "__code__", None)
        path, first = (Path(code.co_filename), code.co_firstlineno) if code else _begins(kind)
        tree = tree_of(str(path))
        classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
        own = next((one for one in classes if first in (one.lineno, *(d.lineno for d in one.decorator_list))), None)
        for node in own.body if own else ():
            match node:
                case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                    used = {one.id for one in ast.walk(node.annotation) if isinstance(one, ast.Name)}
                    alias = next((line for other, line in assigned(tree).items() if other in used), None)
                    return self.where_line(path, node.lineno), self.where_line(path, alias) if alias else None
        return None, None

    def where_validated(self, error: BaseException, handler: object) -> str | None:
        """The body of a handler whose validation raised: its only field, or its class; None for another exception."""
        frames = [*traceback.walk_tb(error.__traceback__)]
        if not frames or not str(frames[-1][0].f_globals.get("__name__")).startswith("pydantic"):
            return None
        with suppress(Exception):  # an annotation that cannot be resolved
            for kind in get_type_hints(handler).values():
                if fields := getattr(kind, "model_fields", None):
                    found = [self.where_field(kind, name)[0] for name in fields]
                    return found[0] if len(found) == 1 and found[0] else self.where_defined(kind)
        return None

    def where_decorated(self, function: object, text: str) -> str | None:
        """The line among a function's decorators that holds `text`; None where there is none."""
        code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]  # what has none raises
        if code is None:
            return None
        for number, line in enumerate(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]):
            if line.lstrip().startswith(("def ", "async def ")):
                break
            if text in line:
                return self.where_line(Path(code.co_filename), code.co_firstlineno + number)
        return None

    def where_reached(self, function: object, wanted: Is) -> str | None:
        """The first line of what is `wanted` in a function of the learner's, or in those of its file that it calls."""
        code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]  # what has none raises
        found = code and first_reached(tree_of(code.co_filename), code.co_name, wanted)
        return self.where_line(Path(code.co_filename), found) if code and found else None

    def where_found(self, wanted: Is, about: str = "") -> str | None:
        """The first line of what is `wanted` in the modules of `lab`; in lab/`about`.py before others."""
        names = sorted((path.stem for path in (self.tree / "lab").glob("*.py")), key=lambda name: (name != about, name))
        return next(filter(None, (self.where_in(name, wanted) for name in names)), None)

    def where_in(self, name: str, wanted: Is) -> str | None:
        """The first line of what is `wanted` in lab/`name`.py, if that is the learner's."""
        path = self.tree / "lab" / f"{name}.py"
        found = first(tree_of(str(path)), wanted)
        return self.where_line(path, found) if found else None

    def where_written(self, path: Path, text: str) -> str | None:
        """The first line of a file that holds `text`."""
        found = next((n for n, line in enumerate(linecache.getlines(str(path)), 1) if text in line), None)
        return self.where_line(path, found) if found else None
