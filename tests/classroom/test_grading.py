"""One grade: points by the markers, whatever a run says of itself, and no zero where there is no verdict."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from checks.harness.classroom import gradebook, grading, jobs, records
from checks.harness.classroom.first_program import Report
from checks.harness.classroom.grading import Grade, Plan, _nothing, _told, to_run_again
from checks.harness.classroom.likeness import alike, own_code
from checks.harness.classroom.submissions import Submission, find
from checks.harness.classroom.summary import summarise
from checks.harness.grading.markers import markers
from checks.harness.report.results import Run, Verdict
from tests.classroom.test_class import CELL, Quiet
from tests.exercises import EXERCISES

PLAN = Plan((1,), "plain", 60)


def said(**verdicts: Verdict) -> dict[str, Any]:
    """What a run writes: a checkpoint for each verdict, `c14="passed"` for 1.4, with points that it made up."""
    found = [
        {"id": f"1.{name[2:]}", "title": "mine", "max_points": 1000, "points": 1000, "verdict": verdict}
        for name, verdict in verdicts.items()
    ]
    return {
        "schema": "lab-results/v1", "workspace": "x", "hash": "y", "seed": 7, "started": "", "machine": {},
        "exercises": [{"number": 1, "title": "mine", "about": "", "checkpoints": found, "points": 9, "max_points": 9}],
    }  # fmt: skip


def told(code: int | None, results: object) -> tuple[Run, str]:
    """What the judge makes of a run."""
    return _told(Report(code, results if isinstance(results, str) else json.dumps(results), "last words"), PLAN)


def test_markers_are_those_that_pytest_sees() -> None:
    """Ids and points of every exercise; what is needed first; titles without a full stop."""
    for number, exercise in EXERCISES.items():
        assert [(one.id, one.points) for one in markers(number)] == [(c.id, c.points) for c in exercise.checkpoints]
    assert next(one for one in markers(1) if one.id == "1.9").needs == ("1.3", "1.4", "1.6")
    assert markers(1)[0].title == "/health answers with its process id"


def test_points_are_those_of_the_markers() -> None:
    """A run that gives itself 1000 points, another title or one more checkpoint gets what the markers say."""
    run, problem = told(1, said(c11="passed", c14="failed", c177="passed"))
    found = {c.id: c for c in run.checkpoints}

    assert problem == ""
    assert list(found) == [f"1.{number}" for number in range(1, 10)]
    assert (found["1.1"].points, found["1.1"].max_points, found["1.1"].title) == (1, 1, markers(1)[0].title)
    assert (found["1.4"].points, found["1.4"].max_points) == (0, 3)
    assert found["1.2"].verdict == "not_run"


def test_a_run_that_contradicts_itself_has_no_verdict() -> None:
    """All green with an exit code that says otherwise, the reverse, an end by a signal, results that are none."""
    for code, results, says in (
        (1, said(c11="passed"), "contradict"),
        (0, said(c11="failed"), "contradict"),
        (-9, said(c11="passed"), "it was ended by signal 9 last words"),
        (3, said(c11="passed"), "pytest itself failed"),
        (0, "", "no results that can be read"),
        (0, "[" * 100_000, "no results that can be read"),
        (0, {"schema": "mine"}, "no results that can be read"),
    ):
        run, problem = told(code, results)
        assert says in problem
        assert {c.verdict for c in run.checkpoints} == {"not_run"}
        assert sum(c.points for c in run.checkpoints) == 0


def test_what_ran_before_the_time_was_over_counts() -> None:
    """The rest is not run, and listed."""
    run, problem = told(None, said(c11="passed"))
    grade = Grade(Submission("ada", Path("ada"), "folder"), "plain", run, problem)

    assert grade.points == 1
    assert "its time was over after 60 s" in problem
    assert grade.unsettled == [f"1.{number}" for number in range(2, 10)]


def test_a_fault_of_the_lab_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to one submission, it is listed, and the class goes on."""

    def breaks(_: Path) -> str:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(grading, "own_code", breaks)
    found = grading.grade(Submission("ada", ROOT / "solutions", "folder"), PLAN, tmp_path / "work", 1)

    assert found.problem == "a fault of the lab: RuntimeError: two lines"
    assert len(found.unsettled) == 9
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("verdicts", "ids"),
    [
        ({"c14": "inconclusive", "c19": "locked"}, ["1.4", "1.9"]),
        ({"c14": "inconclusive", "c13": "failed", "c19": "locked"}, ["1.4"]),
        ({"c14": "failed", "c19": "locked"}, []),
        ({"c19": "inconclusive"}, ["1.9"]),
    ],
)
def test_what_is_run_again(verdicts: dict[str, Verdict], ids: list[str]) -> None:
    """Inconclusive ones, and those that waited for nothing but them."""
    run = told(1, said(**({f"c1{number}": "passed" for number in range(1, 10)} | verdicts)))[0]  # type: ignore[arg-type]

    assert to_run_again(run, PLAN) == ids


TOO_BUSY = """
import asyncio
import types

for watch in [one for one in object.__subclasses__() if one.__name__ == "Watch"]:
    watch.until = lambda *_, **__: types.SimpleNamespace(kind="starved", busy=True)
"""
"""What makes a cell say of each wait that the machine was too busy."""


@pytest.mark.exhaustive
@pytest.mark.cost(10)
def test_what_stays_inconclusive_is_listed(tmp_path: Path) -> None:
    """It is judged again once at the end, alone, and by the next command not again; the rest of the grade stays."""
    lab = shutil.copytree(ROOT / "solutions" / "lab", tmp_path / "class" / "ada" / "lab")
    text, answer = (lab / "service.py").read_text(), '    return {"status": "ok", "pid": os.getpid()}'
    assert answer in text
    (lab / "service.py").write_text(text.replace(answer, f"    await asyncio.sleep(0.3)\n{answer}") + TOO_BUSY)
    plan, out, quiet = Plan((1,), CELL, 300), tmp_path / "grades", Quiet()
    for _ in range(2):
        with ThreadPoolExecutor(2) as executor:
            (grade,) = jobs.grade_class(find(tmp_path / "class"), plan, out, executor, quiet)
    summary = gradebook.write([grade], plan, out)

    assert (quiet.fresh, quiet.again, quiet.kept) == (["ada"], ["ada"], ["ada"])
    assert "1.1" in grade.unsettled
    assert grade.points > 0
    assert summary.unsettled == [(grade, grade.unsettled)]
    assert "1.1" in (out / "summary.html").read_text().partition("To be looked at")[2].partition("by how many")[0]


def test_a_name_is_no_formula_and_no_html(tmp_path: Path) -> None:
    """Neither a spreadsheet nor a browser takes what a stranger wrote for its own."""
    run, _ = told(1, said(c11="failed"))
    next(iter(run.checkpoints)).seen = "<script>alert(1)</script>"
    run.started = "2020-01-01T00:00:00+00:00"
    name = "=cmd()<b>"
    grade = Grade(Submission(name, tmp_path, "folder"), "plain", run, "@problem")
    gradebook.write([grade], PLAN, tmp_path)
    records.save(tmp_path, grade, PLAN, "")

    row = (tmp_path / "grades.csv").read_text().splitlines()[1]
    assert row.startswith("'=cmd()<b>,0,20,")
    assert "'@problem" in row
    for page in (tmp_path / "summary.html", tmp_path / name / "index.html"):
        assert "<script" not in page.read_text()
        assert "<b>" not in page.read_text()
        assert "default-src 'none'" in page.read_text()


@pytest.mark.parametrize(
    "forged",
    [
        {"seconds": float("nan")},
        {"seconds": 1e308},
        {"evidence": [{"kind": "table", "title": "", "columns": ["a"], "rows": [["1", "2"]]}]},
        {"evidence": [{"kind": "histogram", "title": "", "buckets": [{"from": float("inf"), "to": 1, "count": -1}],
                       "p50": None, "p95": None, "p99": None, "count": 1}]},
        {"evidence": [{"kind": "timeline", "title": "",
                       "rows": [{"label": "", "wait": 1e12, "work": 1e12, "end": 1e-9}]}]},
    ],
)  # fmt: skip
def test_results_that_break_a_report_cost_nobody_else(forged: dict[str, Any], tmp_path: Path) -> None:
    """Numbers and pictures that a run made up are left out, or the run has no verdict; the class goes on."""
    results = said(c11="passed", c14="failed")
    for checkpoint in results["exercises"][0]["checkpoints"]:
        checkpoint.update(forged)
    run, _ = told(1, results)
    run.started = "2020-01-01T00:00:00+00:00"
    grade = jobs._kept(Grade(Submission("eve", tmp_path, "folder"), "plain", run), PLAN, tmp_path, "")

    assert grade.points == 1 or "cannot be shown" in grade.problem
    assert (tmp_path / "eve" / "grade.json").exists()
    assert (tmp_path / "eve" / "index.html").stat().st_size < 100_000


def test_the_distribution_counts_everybody() -> None:
    """Columns of equal width, from none to all points."""
    grades = [
        Grade(Submission(f"s{number}", Path(), "folder"), "plain", told(1, said(**verdicts))[0])  # type: ignore[arg-type]
        for number, verdicts in enumerate(({"c11": "failed"}, {"c11": "passed"}, {"c13": "passed", "c11": "failed"}))
    ]
    summary = summarise([*grades, Grade(grades[0].submission, "plain", _nothing(PLAN), "refused")], PLAN)

    assert summary.max_points == 20
    assert sum(column.count for column in summary.distribution) == 4
    assert [(c.low, c.high, c.count) for c in summary.distribution][:2] == [(0, 2, 3), (3, 5, 1)]
    assert summary.distribution[-1].high == 20
    assert (summary.checkpoints[0].id, summary.checkpoints[0].verdicts["failed"]) == ("1.1", 2)


def test_alike_is_what_two_wrote_and_no_stub(tmp_path: Path) -> None:
    """Other comments, layout and docstrings change nothing; stubs have no code of their own; code is read, not run."""
    solution = shutil.copytree(ROOT / "solutions", tmp_path / "solution")
    other = shutil.copytree(solution, tmp_path / "other")
    for path in other.rglob("*.py"):
        path.write_text(f'"""Mine."""\n# my own work\n{path.read_text()}\n\n\n# the end\n')
    (other / "lab" / "deep.py").write_text("(" * 50_000)
    (other / "lab" / "no_python.py").write_bytes(b"\xff\x00 '''")
    codes = {"ada": own_code(solution), "bob": own_code(other), "stub": own_code(ROOT)}
    pairs = alike(codes)

    assert codes["stub"] == ""
    assert [(pair.one, pair.other) for pair in pairs] == [("ada", "bob")]
    assert pairs[0].percent >= 99
