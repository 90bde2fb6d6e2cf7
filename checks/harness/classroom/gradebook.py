"""What a teacher reads of the whole class: `grades.csv` and `summary.html`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from checks.harness.classroom.grading import Grade, Plan
from checks.harness.classroom.pages import teachers_page
from checks.harness.classroom.summary import Summary, summarise

_FORMULA = ("=", "+", "-", "@")


def write(grades: Sequence[Grade], plan: Plan, out: Path) -> Summary:
    """Write `grades.csv` and `summary.html` into the folder `out`."""
    summary = summarise(grades, plan)
    for name, text in (("grades.csv", table(grades)), ("summary.html", teachers_page(summary))):
        partial = out / f".{name}.partial"
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(out / name)
    return summary


def table(grades: Sequence[Grade]) -> str:
    """The CSV: a row for each submission, two columns for each checkpoint: its points, and its verdict."""
    ids = [c.id for c in grades[0].run.checkpoints] if grades else []
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    about = ["submission", "points", "max_points", "bonus", "max_bonus", "unsettled", "problem", "hash", "cell", "seed"]
    writer.writerow([*about, *(f"{name}{what}" for name in ids for what in ("", " verdict"))])
    for grade in grades:
        run = grade.run
        points = grade.points, run.max_points, run.bonus_points, run.max_bonus_points
        row = [_cell(grade.submission.name), *points, " ".join(grade.unsettled), _cell(grade.problem)]
        verdicts = [value for c in run.checkpoints for value in (c.points, c.verdict)]
        writer.writerow([*row, run.hash, grade.cell, run.seed if run.hash else "", *verdicts])
    return written.getvalue()


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(_FORMULA) else line
