"""The grading of a class from its folder to `summary.html`, as the command `lab grade` calls it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from checks.harness.classroom import gradebook
from checks.harness.classroom.grading import Plan
from checks.harness.classroom.jobs import grade_class
from checks.harness.classroom.progress_bar import ProgressBar
from checks.harness.classroom.submissions import Submission
from checks.harness.classroom.summary import Summary
from checks.harness.classroom.workers import threads, workers
from checks.harness.walls.choice import choose


def grade(
    submissions: Sequence[Submission], out: Path, plan: Plan, jobs: int, console: Console, scheduler: str = ""
) -> Summary:
    """Grade every submission into the folder `out`; what is on the console is for the teacher.

    It is graded here, `jobs` at a time, or where the workers of the scheduler at that address are.

    Raises:
        NoCell: this machine cannot have the cell of the plan.
        Busy: another process grades into `out`.
        NoWorkers: nobody answers at the scheduler's address, or a worker cannot grade this class.
        KeyboardInterrupt: asked to end, also by SIGTERM; nothing runs any more, and what was graded is kept.
    """
    wall = choose(plan.cell)
    out.mkdir(parents=True, exist_ok=True)
    paths = [one.path for one in submissions]
    with (
        _sigterm_interrupts(),
        wall.hiding(out, paths),
        workers(scheduler, plan.cell, [out, *paths]) if scheduler else threads(jobs) as executor,
        ProgressBar(console) as bar,
    ):
        grades = grade_class(submissions, plan, out, executor, bar)
        summary = gradebook.write(grades, plan, out)
    _conclude(summary, out, console)
    return summary


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Within this, SIGTERM does what Ctrl-C does: the runs are ended, and not only their caller."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _conclude(summary: Summary, out: Path, console: Console) -> None:
    """Where the grades are, and what has none."""
    many = len(summary.grades)
    lines = [f"{many} submission{'s' if many != 1 else ''}, {summary.plan.cell} cell: {out / 'summary.html'}"]
    for grade, ids in summary.unsettled:
        whole = len(ids) == len(list(grade.run.checkpoints))
        lines.append(f"no verdict: {grade.submission.name}, {'all checkpoints' if whole else ', '.join(ids)}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
