"""The stubs: finds them in git, and puts them back in the place of what a learner wrote.

git is the only source: a copy of the stubs would have to follow each change of `lab/`. Of all commits of a file the one
with the most stubs counts, and of these the newest. So it does not matter whether a learner has committed work since.
"""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

KEPT = Path(".lab", "kept")
"""Where the learner's files are kept, by the time of the reset."""

_MARK = re.compile(r"""NotImplementedError\(["'](\d+\.\d+): |TODO\((\d+\.\d+)\)""")


class CannotReset(Exception):
    """Why a stub cannot be put back, in a sentence."""


@dataclass(frozen=True, slots=True)
class Part:
    """A function, a class or a field: its lines in a file, the first and the last one included, from 0."""

    first: int
    last: int


def kept(root: Path, file: str) -> Path:
    """Copy the learner's file below `KEPT`; give the copy's path, relative to the root."""
    to = KEPT / f"{datetime.now():%Y%m%dT%H%M%S.%f}" / file
    (root / to).parent.mkdir(parents=True)
    shutil.copy(root / file, root / to)
    return to


def whole(root: Path, file: str) -> str:
    """The text of a file as stubs.

    Raises:
        CannotReset: no commit has it as a stub.
    """
    texts = list(_history(root, file))
    best = max(texts, key=_marks, default="")  # max() gives the first of equals, which is the newest
    if not _marks(best):
        raise CannotReset(f"no commit has {file} as a stub")
    return best


def spliced(root: Path, file: str, ids: Sequence[str]) -> tuple[str, list[str]]:
    """The learner's file with the parts put back that are stubs of these checkpoints, and the names of these parts.

    Of a file that is not Python's the whole stub, without names. Neither text nor names where no part is such a stub.

    Raises:
        CannotReset: the learner's file cannot be read, or does not have such a part any more.
    """
    if not file.endswith(".py"):
        return whole(root, file), []
    text, stubs = "", dict[str, Part]()
    for other in _history(root, file):
        with contextlib.suppress(CannotReset):  # a commit of a file that Python cannot read
            found = {name: part for name, part in _parts(other, file).items() if _marked(other, part, ids)}
            text, stubs = (other, found) if len(found) > len(stubs) else (text, stubs)
    if not stubs:
        return "", []
    mine = _source(root, file)
    own = _parts(mine, file)
    if missing := sorted(stubs.keys() - own.keys()):
        raise CannotReset(f"{file} has no `{missing[0]}` any more: `uv run lab reset {file}` puts the whole file back")
    lines, from_stub = mine.splitlines(), text.splitlines()
    for name in sorted(stubs, key=lambda name: own[name].first, reverse=True):  # from the end: lines above stay put
        lines[own[name].first : own[name].last + 1] = from_stub[stubs[name].first : stubs[name].last + 1]
    return "\n".join(lines) + "\n", sorted(stubs)


def _source(root: Path, file: str) -> str:
    """The learner's text."""
    try:
        return (root / file).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        raise CannotReset(f"there is no {file}: `uv run lab reset {file}` puts it back") from error


def _history(root: Path, file: str) -> Iterator[str]:
    """The text of a file in each commit that changed it, from the newest to the oldest."""
    if shutil.which("git") is None:
        raise CannotReset("this needs git, which is not installed")
    done = _git(root, "log", "--format=%H", "--", file)
    if done.returncode:
        raise CannotReset("this needs the lab's git history, which is not here: clone the lab instead of copying it")
    for commit in done.stdout.split():
        shown = _git(root, "show", f"{commit}:./{file}")
        if shown.returncode == 0:  # else the commit removed it
            yield shown.stdout


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


def _marks(text: str) -> int:
    """How many stubs a text has."""
    return len(_MARK.findall(text))


def _marked(text: str, part: Part, ids: Sequence[str]) -> bool:
    """Whether a part is a stub of one of these checkpoints: its first mark says so.

    A later one is a note to what is written already.
    """
    found = _MARK.search("\n".join(text.splitlines()[part.first : part.last + 1]))
    return found is not None and (found[1] or found[2]) in ids


def _parts(text: str, file: str) -> dict[str, Part]:
    """The functions and fields of a file by their full names, such as `LatencyWindow.record`.

    Raises:
        CannotReset: Python cannot read it.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        said = f"Python cannot read {file}: `uv run lab reset {file}` puts the whole file back"
        raise CannotReset(said) from error
    found: dict[str, Part] = {}
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        above = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for one in inner:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
                found[above + one.name] = Part(first - 1, (one.end_lineno or one.lineno) - 1)
            elif isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                found[above + one.target.id] = Part(one.lineno - 1, (one.end_lineno or one.lineno) - 1)
    return found
