"""The two pages of HTML, one for a learner and one for the teacher: each is one file that loads and runs nothing."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from checks.harness.classroom.grading import Grade
from checks.harness.classroom.summary import Summary
from checks.harness.report.__main__ import show
from checks.harness.report.card import MARKS
from checks.harness.report.results import Run

WIDTH = 100

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.globals["marks"] = MARKS
_PAGES.filters["path"] = lambda name: quote(name)


def learners_page(grade: Grade) -> str:
    """Points, verdicts, and the card with every open checkpoint in full."""
    return _PAGES.get_template("learner.html").render(grade=grade, run=grade.run, card=_card(grade.run))


def teachers_page(summary: Summary) -> str:
    """The class: distribution, what failed with which words, what is unsettled, who is alike."""
    return _PAGES.get_template("teacher.html").render(summary=summary)


def _card(run: Run) -> Markup:
    """The card as HTML; rich escapes what it writes."""
    to = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    show(run, to, all_details=True)
    return Markup(to.export_html(inline_styles=True, code_format="<pre>{code}</pre>"))
