"""The whole as one HTML file that needs nothing else: verdicts, pictures, journal. For a teacher, or a portfolio."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from checks.harness.report.card import Card
from checks.harness.report.evidence import Evidence
from checks.harness.report.pictures import draw
from checks.harness.report.results import Run
from lab_guide.bench.kept import Bench, Record
from lab_guide.bench.quantities import ASKED, QUANTITIES, digits, error_percent
from lab_guide.bench.shown import pictures
from lab_guide.journal import Journal
from lab_guide.standing import standing

WIDTH = 100
"""Columns: a line of code, and the picture of sixty requests."""

_THEME = TerminalTheme(
    (160, 160, 160),  # what is dim is mixed with this: with the white of the page it would be too faint to read
    (0, 0, 0),
    [(0, 0, 0), (170, 0, 0), (0, 100, 0), (110, 85, 0), (0, 60, 160), (120, 0, 120), (0, 95, 110), (80, 80, 80)],
)
"""The terminal's colours on white paper, each with a contrast of 4.5 to 1 or more."""

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["digits"] = digits


def html(run: Run, bench: Iterable[Record] = (), journal: Journal | None = None) -> str:
    """The card with every open checkpoint in full, the pictures of the passed ones, and the journal.

    It names no folder of this machine.
    """
    run = replace(run, workspace=run.workspace.partition(" /")[0], options="")
    return _TEMPLATES.get_template("export.html").render(
        points=run.score,
        run=run,
        card=_drawn(lambda to: Card(to, all_details=True).whole(run)),
        pictures=[
            (c.id, c.title, _pictures(c.evidence))
            for c in run.checkpoints
            if c.verdict == "passed" and _has_one(c.evidence)
        ],
        bench=[_measured(record) for record in bench],
        journal=journal,
        exercises=sorted({name.partition(".")[0] for name in journal.entries} | {*journal.explained})
        if journal
        else [],
    )


def everything(results: Path, files: Path | None = None) -> str:
    """The export of a place: of each checkpoint the newest result, and all that the bench and the journal have.

    `files` are the learner's, where the results are not in their `.lab`.

    Raises:
        ValueError: there are no results that can be read.
    """
    folder = results.parent
    return html(standing(results, files), Bench(folder).records(), Journal(folder, read_only=True))


def _has_one(evidence: Iterable[Evidence]) -> bool:
    return any(one.kind != "number" for one in evidence)


def _pictures(evidence: Iterable[Evidence]) -> Markup:
    def draw_all(to: Console) -> None:
        for one in evidence:
            for line in draw(one, width=WIDTH, ascii_only=False):
                to.print(line)

    return _drawn(draw_all)


def _drawn(draw_on: Any) -> Markup:
    """What is printed on a console, as HTML; rich escapes it."""
    to = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    draw_on(to)
    return Markup(to.export_html(theme=_THEME, inline_styles=True, code_format="{code}"))


def _measured(record: Record) -> dict[str, Any]:
    """A run of the bench: each prediction beside its measurement, and its pictures."""
    measured = record.measured or {}
    guesses = []
    for name in ASKED[record.plan.kind][record.plan.load]:
        predicted, seen = getattr(record.predicted, name), measured.get(name)
        if predicted is not None:
            off = None if seen is None else error_percent(predicted, seen)
            guesses.append((QUANTITIES[name], predicted, seen, off))
    drawn = pictures(record.plan, record.rows, measured)
    return {
        "record": record,
        "plan": str(record.plan),
        "guesses": guesses,
        "pictures": _pictures(drawn) if drawn else "",
    }
