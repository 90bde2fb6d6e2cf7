"""What is on disk of each submission: its grade, found again by the hash of its files, and its reports.

grades/ada/grade.json             what the grade belongs to; written last
grades/ada/results.json           lab-results/v1
grades/ada/junit.xml  ctrf.json   for CI and dashboards
grades/ada/gradescope/results.json
grades/ada/card.txt  index.html   for the learner
grades/ada/own_code.txt           what is compared with the code of others
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from checks.harness.classroom.grading import Grade, Plan
from checks.harness.classroom.pages import learners_page
from checks.harness.classroom.submissions import Submission
from checks.harness.report import results
from checks.harness.report.__main__ import show
from checks.harness.report.card import WIDTH
from checks.harness.report.ctrf import ctrf
from checks.harness.report.gradescope import gradescope
from checks.harness.report.junit import junit

RECORD = "grade.json"


def folder_of(out: Path, submission: Submission) -> Path:
    """Where everything about a submission is."""
    return out / submission.name


def save(out: Path, grade: Grade, plan: Plan, version: str) -> None:
    """Write the grade and its reports; the record comes last, so half a grade is none."""
    folder = folder_of(out, grade.submission)
    (folder / "gradescope").mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    results.write(grade.run, folder / "results.json")
    for name, text in _reports(grade).items():
        (folder / name).write_text(text, encoding="utf-8")
    record = _key(plan, grade.run.hash, version) | {"problem": grade.problem, "retried": grade.retried}
    partial = folder / f"{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / RECORD)


def load(out: Path, submission: Submission, plan: Plan, digest: str, version: str) -> Grade | None:
    """The grade that these very files got by the same plan and checkpoints; None where there is none."""
    folder = folder_of(out, submission)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        run = results.read(folder / "results.json")
        code = (folder / "own_code.txt").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record | _key(plan, digest, version) != record:
        return None
    return Grade(submission, plan.cell, run, record["problem"], record["retried"], code)


def _key(plan: Plan, digest: str, version: str) -> dict[str, Any]:
    """What a grade depends on."""
    lists = {"exercises": list(plan.exercises), "only": list(plan.only)}
    return {**asdict(plan), **lists, "hash": digest, "checks": version}


def _reports(grade: Grade) -> dict[str, str]:
    told = gradescope(grade.run)
    told["output"] = f"{told['output']}, in a {grade.cell} cell\n{grade.problem}".strip()
    common = ctrf(grade.run)
    common["results"]["extra"] |= {"cell": grade.cell, "problem": grade.problem}
    return {
        "junit.xml": junit(grade.run),
        "ctrf.json": json.dumps(common, indent=1) + "\n",
        "gradescope/results.json": json.dumps(told, indent=1) + "\n",
        "card.txt": card(grade),
        "index.html": learners_page(grade),
        "own_code.txt": grade.code,
    }


def card(grade: Grade) -> str:
    """The card as a learner sees it, without colours."""
    to = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    if grade.problem:
        to.print(f"{grade.problem}", markup=False, highlight=False)
    show(grade.run, to)
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()
