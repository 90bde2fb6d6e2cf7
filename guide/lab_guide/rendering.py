"""Lessons and source as HTML. What a learner wrote is escaped; of a lesson no HTML is passed through."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.util import ClassNotFound

from checks.harness.source_lines import LEARNERS
from checks.harness.workspace import handwritten

AROUND = 2
"""Lines shown above and below the one in question."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a lesson: its heading, and its text as HTML."""

    title: str
    html: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of source: its number from 1, its text as HTML, and whether it is the one that was asked for."""

    number: int
    html: str
    here: bool


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines around one; `task` is the docstring of the function there, if that function is still a stub."""

    file: str
    lines: list[Line]
    task: str = ""


def lesson(text: str) -> list[Section]:
    """The sections of a lesson; the first one has the lesson's own title."""
    markdown = MarkdownIt("commonmark", {"html": False, "highlight": _code}).enable("table")
    parts = re.split(r"^##? (.+)\n", text, flags=re.MULTILINE)[1:]
    return [Section(title, _section(markdown, body)) for title, body in zip(parts[::2], parts[1::2], strict=True)]


_MEASURED = re.compile(r"^<!-- (?:/?)measured -->\n", re.MULTILINE)


def _section(markdown: MarkdownIt, text: str) -> str:
    """A section as HTML. What stands between two marks was measured: it is folded, for a prediction comes first."""
    parts = [_html(markdown, part) for part in _MEASURED.split(text)]
    folded = '<details class="measured"><summary>Measured numbers: predict first, or show them</summary>{}</details>'
    return "".join(folded.format(part) if n % 2 else part for n, part in enumerate(parts))


def _html(markdown: MarkdownIt, text: str) -> str:
    """Text as HTML; a column that is set right has a class, for the page's policy forbids styles in its markup."""
    tokens = markdown.parse(text)
    for token in tokens:
        if "style" in token.attrs:
            del token.attrs["style"]
            token.attrSet("class", "right")
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def excerpt(files: Path, name: str, number: int) -> Excerpt:
    """The lines around one of the learner's.

    Raises:
        ValueError: it is no file or no line of the learner's.
        LearnerError: nobody can have written that file.
    """
    path = (files / name).resolve()
    inside = path.relative_to(files.resolve())  # a ValueError where it leads out
    if inside.as_posix() != name or (inside.parts[0] not in LEARNERS and len(inside.parts) > 1):
        raise ValueError(f"{name} is no file of the learner's")
    if inside.parts[0].startswith(".") and inside.parts[0] != ".dockerignore":
        raise ValueError(f"{name} may hold secrets")
    text = handwritten(path)
    lines = _highlighted(text, path.name)
    if not 1 <= number <= len(lines):
        raise ValueError(f"{name} has no line {number}")
    shown = range(max(1, number - AROUND), min(len(lines), number + AROUND) + 1)
    return Excerpt(name, [Line(n, lines[n - 1], n == number) for n in shown], _task(text, number))


def _highlighted(text: str, name: str) -> list[str]:
    """The lines of a file, escaped and marked up."""
    try:
        lexer = get_lexer_for_filename(name, stripnl=False)
    except ClassNotFound:
        lexer = get_lexer_by_name("text", stripnl=False)
    return highlight(text, lexer, HtmlFormatter(nowrap=True)).splitlines()


def _code(text: str, language: str, _: str) -> str:
    """A block of code in a lesson; without a language markdown-it escapes it."""
    return str(highlight(text, get_lexer_by_name(language), HtmlFormatter(nowrap=True))) if language == "python" else ""


def _task(text: str, number: int) -> str:
    """What the docstring of a stub wants, where this line is in a stub."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= number <= (node.end_lineno or 0):
            stub = any(isinstance(one, ast.Raise) and "NotImplementedError" in ast.unparse(one) for one in node.body)
            return (ast.get_docstring(node) or "") if stub else ""
    return ""
