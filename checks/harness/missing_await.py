"""Where something came from that lacks what makes it usable: a coroutine its `await`, a generator its decorator."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import traceback
from collections.abc import Collection, Iterator
from types import CodeType

from checks.harness.plain_words import lacks_await
from checks.harness.source_lines import SourceLines
from checks.harness.syntax import tree_of

_GENERATOR = re.compile(r"'(async_)?generator' object does not support the (asynchronous )?context manager protocol")


def where_not_awaited(error: BaseException, lines: SourceLines, handler: object = None) -> str | None:
    """The learner's line that calls an `async def` without `await`, if that is what `error` is about.

    If it is about `with` and a generator, the function that lacks `@contextmanager`. Looked for in the functions of its
    traceback, the innermost first, above the lines that they were at, then in `handler`.
    """
    if known := getattr(error, "not_awaited", None):  # one from a cell brings it: its frames hold no values
        return str(known)
    if not lacks_await(error):
        return _where_not_decorated(error, lines) if _GENERATOR.search(str(error)) else None
    named = {name.rpartition(".")[2] for name in re.findall(r"<coroutine object ([\w.<>]+) at", str(error))}
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        if lines.where(frame.f_code, line):
            held = {name: value.__name__ for name, value in frame.f_locals.items() if inspect.iscoroutine(value)}
            if found := where_called(frame.f_code, named | {*held.values()}, line, {*held}):
                return lines.where(frame.f_code, found)
    code = getattr(handler and inspect.unwrap(handler), "__code__", None)  # type: ignore[arg-type]
    if code is None:
        return None
    found = where_called(code, named)
    return lines.where(code, found) if found else None


def _where_not_decorated(error: BaseException, lines: SourceLines) -> str | None:
    """The generator function that a `with` has called, in the innermost function of the traceback that has one."""
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        for called in _entered(frame.f_code.co_filename, line):
            holder, _, name = called.rpartition(".")
            names = {**frame.f_globals, **frame.f_locals}
            function = getattr(names.get(holder), name, None) if holder else names.get(name)
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                return lines.where_defined(function)
    return None


def _entered(file: str, line: int) -> list[str]:
    """What the `with` at that line calls: names, perhaps with that of what holds them."""
    entered = [
        node for node in ast.walk(tree_of(file)) if isinstance(node, ast.With | ast.AsyncWith) and node.lineno == line
    ]
    items = [item.context_expr for node in entered for item in node.items]
    return [ast.unparse(one.func) for one in items if isinstance(one, ast.Call)]


def where_called(
    code: CodeType, names: Collection[str], last: int = sys.maxsize, kept_as: Collection[str] = ()
) -> int | None:
    """The line, up to `last`, where a function calls one of these names and does not await it.

    Also a call of whatever name that is kept under a name in `kept_as`.
    """
    functions = (
        node for node in ast.walk(tree_of(code.co_filename)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    function = next((one for one in functions if _first_line(one) == code.co_firstlineno), None)
    called = [line for line in _not_awaited(function, names, kept_as) if line <= last] if function else []
    return max(called, default=None)


def _first_line(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """As in a code object: its first decorator's."""
    return min([function.lineno, *(one.lineno for one in function.decorator_list)])


def _not_awaited(function: ast.AST, names: Collection[str], kept_as: Collection[str]) -> Iterator[int]:
    awaited = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Await)}
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in names:
                if id(node) not in awaited:
                    yield node.lineno
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call()) if name in kept_as:
                yield node.lineno
