"""Finds a place in a module by what is written there, read as Python reads it: lines for a card to point at."""

from __future__ import annotations

import ast
import builtins
import linecache
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
Is = Callable[[ast.AST], bool]

_TAKES = ("pop", "popleft", "get_nowait")
"""Methods of Python's that take an item out of a list, a deque or a queue."""
_HOLDERS = ("list", "dict", "set", "deque", "Counter", "defaultdict", "Queue", "LifoQueue", "PriorityQueue", "Lock")
"""Classes of Python's whose instances hold a state."""


def tree_of(path: str) -> ast.Module:
    """What is written in a file; of one that Python cannot read, nothing."""
    try:
        return ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        return ast.Module([], [])


def first(node: ast.AST, wanted: Is) -> int | None:
    """The first line of what is `wanted` below this."""
    return min((one.lineno for one in ast.walk(node) if wanted(one)), default=None)  # type: ignore[attr-defined]


def reads(*names: str) -> Is:
    """An attribute of one of these names that is read."""
    return lambda one: isinstance(one, ast.Attribute) and one.attr in names and isinstance(one.ctx, ast.Load)


def calls(*names: str) -> Is:
    """A call of a function or method of one of these names."""

    def is_one(one: ast.AST) -> bool:
        match one:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                return name in names
        return False

    return is_one


def calls_with(name: str) -> Is:
    """A call of a function or class of this name that is given something."""
    return lambda one: calls(name)(one) and bool(one.args or one.keywords)  # type: ignore[attr-defined]


def says(text: str) -> Is:
    """This text, where it is given to a call, is a key, or is assigned: no mere part of a tuple or a list."""

    def is_it(one: ast.AST) -> bool:
        return isinstance(one, ast.Constant) and one.value == text

    def is_one(one: ast.AST) -> bool:
        match one:
            case ast.Call(args=args):
                return any(map(is_it, args))
            case ast.Subscript(slice=key):
                return is_it(key)
            case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple(elts=values)):
                return any(map(is_it, values))
            case ast.Assign(value=value):
                return is_it(value)
        return False

    return is_one


def changes(name: str) -> Is:
    """An attribute of this name that is not passed on as it is: a method of it, a sum, a call of a builtin."""
    is_it = reads(name)

    def is_one(one: ast.AST) -> bool:
        match one:
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                return is_it(value)
            case ast.BinOp(left=left, right=right):
                return is_it(left) or is_it(right)
            case ast.Call(func=ast.Name(id=function), args=args):
                return hasattr(builtins, function) and any(map(is_it, args))
        return False

    return is_one


def rest_of_one(one: ast.AST) -> bool:
    """Whether this is `1 - ...`."""
    return isinstance(one, ast.BinOp) and isinstance(one.op, ast.Sub) and ast.unparse(one.left) in ("1", "1.0")


def recorded_since(tree: ast.Module, name: str) -> int | None:
    """Of `<name>.record(end - begin)` the last line that sets what `begin` stands for."""
    begins = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="record", value=ast.Attribute(attr=kept) | ast.Name(id=kept)),
                args=[ast.BinOp(op=ast.Sub(), right=begin)],
            ) if kept == name:
                begins.add(ast.unparse(begin))
    set_at = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and begins & {ast.unparse(target) for target in node.targets}
    ]
    return max(set_at, default=None)


def reached(tree: ast.Module, name: str) -> list[Function]:
    """A function of a module, then those of the module that it calls, and so on."""
    known = {one.name: one for one in ast.walk(tree) if isinstance(one, Function)}
    found, ahead = dict[str, Function](), [name]
    while ahead:
        if (one := known.get(ahead.pop(0))) and one.name not in found:
            found[one.name] = one
            ahead += [called for called in known if first(one, calls(called))]
    return [*found.values()]


def first_reached(tree: ast.Module, name: str, wanted: Is) -> int | None:
    """The first line of what is `wanted` in a function of a module, or in those that it calls."""
    return next(filter(None, (first(one, wanted) for one in reached(tree, name))), None)


def _lines(nodes: Iterator[ast.expr]) -> set[int]:
    return {line for node in nodes for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def tests(tree: ast.AST) -> set[int]:
    """Lines of conditions."""

    def found() -> Iterator[ast.expr]:
        for node in ast.walk(tree):
            if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
                yield node.test
            elif isinstance(node, ast.comprehension):
                yield from node.ifs

    return _lines(found())


def takes(tree: ast.AST) -> set[int]:
    """Lines that take items out of a list, a deque or a queue: a slice of one counts, too."""

    def found() -> Iterator[ast.expr]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript):
                yield from [node] if isinstance(node.slice, ast.Slice) else ()
            elif isinstance(node, ast.Call):
                yield from [node] if calls(*_TAKES)(node) else ()

    return _lines(found())


@dataclass(frozen=True, slots=True)
class Uses:
    """What becomes of a value that a class is made with, as lines: `computed` with, `tested` for truth, or `unused`."""

    computed: int | None = None
    tested: int | None = None
    unused: int | None = None


def uses(tree: ast.Module, name: str, place: int) -> Uses:
    """What becomes of the parameter number `place` of a class's `__init__`, also where a field keeps it."""
    made = next((one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == name), None)
    init = made and next((one for one in made.body if isinstance(one, Function) and one.name == "__init__"), None)
    if not made or not init or len(init.args.args) <= place:
        return Uses()
    parameter = init.args.args[place].arg
    fields = {
        target.attr
        for node in ast.walk(init)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == parameter
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }

    def is_it(one: ast.AST) -> bool:
        kept = isinstance(one, ast.Attribute) and one.attr in fields and isinstance(one.ctx, ast.Load)
        return kept or (isinstance(one, ast.Name) and one.id == parameter and isinstance(one.ctx, ast.Load))

    def computed(one: ast.AST) -> bool:
        scaled = isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mult | ast.Div)
        return scaled and (is_it(one.left) or is_it(one.right))  # type: ignore[attr-defined]

    def tested(one: ast.AST) -> bool:
        match one:
            case ast.BoolOp(values=values):
                return any(map(is_it, values))
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.UnaryOp(ast.Not(), test):
                return is_it(test)
        return False

    used = first(init, is_it)
    return Uses(first(made, computed), first(made, tested), None if used else init.lineno)


def shared(tree: ast.Module, name: str) -> int | None:
    """The line of a state that all instances of a class share: in the class's body, else in the module's.

    In the module's only where a method of the class reads it.
    """
    made = next((one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == name), None)
    if not made:
        return None
    for body in (made.body, tree.body):
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name(id=kept)], value=value) if _holds(value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=kept), value=ast.expr() as value) if _holds(value):
                    pass
                case _:
                    continue
            if body is made.body or kept in {one.id for one in ast.walk(made) if isinstance(one, ast.Name)}:
                return node.lineno
    return None


def _holds(value: ast.expr) -> bool:
    return isinstance(value, ast.List | ast.Dict | ast.Set) or calls(*_HOLDERS)(value)
