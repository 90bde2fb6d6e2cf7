"""Grades one submission: copied, judged in its cell, and told in the judge's own terms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from checks.harness.classroom.first_program import Report
from checks.harness.classroom.likeness import own_code
from checks.harness.classroom.one_run import NoReport, run_pytest
from checks.harness.classroom.submissions import Refused, Submission, prepare
from checks.harness.errors import all_printable, printable
from checks.harness.grading.markers import Marker, headline, markers
from checks.harness.report.evidence import Timeline
from checks.harness.report.results import Checkpoint, Exercise, Run, parse
from checks.harness.walls.choice import choose

_ENDED = {2: "it was interrupted", 3: "pytest itself failed", 4: "its files were refused", 5: "no checkpoint ran"}


@dataclass(frozen=True)
class Plan:
    """How a class is graded: the same for every submission.

    `seconds` is what one of them may take. `only` are the ids of the checkpoints that are judged; empty for all.
    """

    exercises: tuple[int, ...]
    cell: str
    seconds: float
    seed: int | None = None
    only: tuple[str, ...] = ()

    def markers(self, exercise: int) -> list[Marker]:
        """The checkpoints of an exercise that are judged."""
        return [marker for marker in markers(exercise) if not self.only or marker.id in self.only]


@dataclass(frozen=True)
class Grade:
    """What became of a submission. `problem` is one line where there is more to say than verdicts.

    The run's `hash` is empty where it was refused. `code` is what the learner wrote, for a comparison.
    """

    submission: Submission
    cell: str
    run: Run
    problem: str = ""
    retried: bool = False
    code: str = ""

    @property
    def points(self) -> int:
        """Points earned, without the bonus."""
        return self.run.points

    @property
    def unsettled(self) -> list[str]:
        """The checkpoints without a verdict of their own: inconclusive, faults of the lab, and not run."""
        return [c.id for c in self.run.checkpoints if c.verdict in ("inconclusive", "lab_error", "not_run")]


def hash_of(submission: Submission, folder: Path) -> str:
    """The hash of what would be judged, by which a grade is found again; empty for what cannot be judged."""
    try:
        return prepare(submission, folder)[1]
    except Refused:
        return ""
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def grade(submission: Submission, plan: Plan, folder: Path, number: int) -> Grade:
    """Judge it, once. Nothing of it runs or lies in `folder` afterwards.

    Args:
        submission: whose work it is, and where.
        plan: how the class is graded.
        folder: a folder that is there for this run alone, and is made here.
        number: another one for each run that goes on at the same time.
    """
    return _judged(submission, plan, folder, number, plan.only)


def again(first: Grade, plan: Plan, folder: Path, number: int) -> Grade:
    """Judge what was inconclusive once more, and what waited for it; everything else stays as it was."""
    ids = to_run_again(first.run, plan)
    second = _judged(first.submission, plan, folder, number, ids)
    if second.run.hash != first.run.hash:
        return replace(first, problem="its files changed while the class was graded", retried=True)
    found = {c.id: c for c in second.run.checkpoints if c.id in ids and c.verdict != "not_run"}
    exercises = [
        replace(exercise, checkpoints=[found.get(c.id, c) for c in exercise.checkpoints])
        for exercise in first.run.exercises
    ]
    return replace(first, run=replace(first.run, exercises=exercises), retried=True)


def lost(submission: Submission, plan: Plan, why: str) -> Grade:
    """The grade of a submission whose run nobody knows anything of."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Grade(submission, plan.cell, replace(_nothing(plan), workspace=submission.name, started=started), why)


def without_verdict(grade: Grade, plan: Plan, why: str) -> Grade:
    """The same submission, of which nothing that its run said is kept."""
    run = replace(_nothing(plan), workspace=grade.run.workspace, hash=grade.run.hash, started=grade.run.started)
    return replace(grade, run=run, problem=why)


def to_run_again(run: Run, plan: Plan) -> list[str]:
    """The ids of those that were inconclusive, and of those that were locked for nothing else."""
    verdicts = {c.id: c.verdict for c in run.checkpoints}
    chosen: list[str] = []
    for marker in (marker for exercise in plan.exercises for marker in plan.markers(exercise)):
        waited = [need for need in marker.needs if verdicts.get(need, "passed") != "passed"]
        unsure = verdicts.get(marker.id) == "inconclusive"
        if unsure or (verdicts.get(marker.id) == "locked" and waited and set(waited) <= set(chosen)):
            chosen.append(marker.id)
    return chosen


def _judged(submission: Submission, plan: Plan, folder: Path, number: int, only: Sequence[str]) -> Grade:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    digest = code = ""
    try:
        tree, digest = prepare(submission, folder)
        code = own_code(tree)
        home = folder / "home"
        home.mkdir()
        report = run_pytest(
            choose(plan.cell), tree, plan.exercises, home,
            number=number, seconds=plan.seconds, only=only, seed=plan.seed,
        )  # fmt: skip
        run, problem = _told(report, plan)
    except (Refused, NoReport) as error:
        run, problem = _nothing(plan), str(error)
    except Exception as error:  # one submission never costs another
        run, problem = _nothing(plan), f"a fault of the lab: {type(error).__name__}: {error}".replace("\n", " ")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    run = replace(run, workspace=submission.name, hash=digest, started=started, options="")
    return Grade(submission, plan.cell, run, printable(problem), code=code)


def _told(report: Report, plan: Plan) -> tuple[Run, str]:
    """The run in the judge's own terms, and a line where its results may not be taken, or are not all there."""
    if report.exit_code not in (0, 1, None):
        code = report.exit_code
        said = (report.printed.strip().splitlines() or [""])[-1]
        why = f"it was ended by signal {-code}" if code < 0 else _ENDED.get(code, f"it ended with exit code {code}")
        return _nothing(plan), f"no verdict: {why} {said}".strip()
    try:
        run = parse(all_printable(json.loads(report.results)), "the run")
    except (ValueError, RecursionError):
        return _nothing(plan), "no verdict: its run left no results that can be read"
    found = replace(run, exercises=[_exercise(number, run, plan) for number in plan.exercises])
    judged = [c for c in found.checkpoints if c.verdict != "not_run"]
    if report.exit_code is None:
        return found, f"its time was over after {plan.seconds:.0f} s: what is missing was not run"
    if (report.exit_code == 0) != all(c.verdict == "passed" for c in judged):
        return _nothing(plan), "no verdict: what its run wrote, and how it ended, contradict each other"
    return found, ""


def _exercise(number: int, run: Run, plan: Plan) -> Exercise:
    """An exercise as its file has it: ids, titles and points; verdicts and words are the run's."""
    said = {c.id: c for exercise in run.exercises for c in exercise.checkpoints}
    title, about = headline(number)
    chosen = [_checkpoint(marker, said.get(marker.id)) for marker in plan.markers(number)]
    return Exercise(number, title, about, chosen)


def _checkpoint(marker: Marker, said: Checkpoint | None) -> Checkpoint:
    if said is None:
        return Checkpoint(marker.id, marker.title, marker.points)
    points = marker.points if said.verdict == "passed" else 0
    drawable = [one for one in said.evidence if not isinstance(one, Timeline) or _drawable(one)]
    return replace(said, title=marker.title, max_points=marker.points, points=points, evidence=drawable)


def _drawable(timeline: Timeline) -> bool:
    """Whether everything in it begins before its end: else a row would be drawn as wide as a run says it is."""
    end = max((row.end for row in timeline.rows), default=0.0)
    return all(row.wait <= end and row.work <= end for row in timeline.rows)


def _nothing(plan: Plan) -> Run:
    """A run in which nothing ran."""
    empty = Run(workspace="", hash="", seed=plan.seed or 0, started="", machine={}, exercises=[])
    return replace(empty, exercises=[_exercise(number, empty, plan) for number in plan.exercises])
