"""Grades a class: many submissions side by side, the unsure ones alone at the end. What was graded once stays graded.

The seam for more machines is the executor: any `concurrent.futures.Executor` does, for what it is given and gives back
can be pickled, and the submissions and the folder of the grades are the same paths everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Protocol

from checks.harness import ROOT
from checks.harness.classroom import grading, records
from checks.harness.classroom.grading import Grade, Plan, again, hash_of, to_run_again, without_verdict
from checks.harness.classroom.submissions import Submission
from checks.harness.grading.isolation import adopt_orphans, end_descendants
from checks.harness.processes.process_group import descendants

WORK = ".work"
"""The folder among the grades where submissions lie while they are judged."""


class Busy(Exception):
    """Somebody else grades into the same folder: one sentence."""


class Listener(Protocol):
    """Who wants to know how far it is."""

    def begin(self, total: int) -> None:
        """So many submissions will be graded."""

    def graded(self, grade: Grade, *, kept: bool) -> None:
        """One has its grade; `kept`: from an earlier run."""

    def retry(self, total: int) -> None:
        """So many are judged again now, one by one."""

    def retried(self, grade: Grade) -> None:
        """One of these is done."""


def grade_class(
    submissions: Sequence[Submission], plan: Plan, out: Path, executor: Executor, listener: Listener
) -> list[Grade]:
    """Every submission's grade, in the order given; each is on disk as soon as it is known.

    Raises:
        Busy: another process grades into `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    others = {child.pid for child in descendants(os.getpid())}
    with _alone(out), _work_folder(out, others) as work:
        version = _version()
        listener.begin(len(submissions))
        grades: dict[int, Grade] = {}
        try:
            futures = {
                executor.submit(_found_or_graded, one, plan, out, work / str(number), number, version): number
                for number, one in enumerate(submissions)
            }
            for future in as_completed(futures):
                grade, kept = future.result()
                grades[futures[future]] = grade if kept else _kept(grade, plan, out, version)
                listener.graded(grades[futures[future]], kept=kept)
            unsure = [n for n, one in grades.items() if not one.retried and to_run_again(one.run, plan)]
            listener.retry(len(unsure))
            for number in sorted(unsure):
                second = executor.submit(again, grades[number], plan, work / str(number), number)
                grades[number] = _kept(second.result(), plan, out, version)
                listener.retried(grades[number])
        except BaseException:
            _end(executor, others)
            raise
        return [grades[number] for number in range(len(submissions))]


def _found_or_graded(
    submission: Submission, plan: Plan, out: Path, folder: Path, number: int, version: str
) -> tuple[Grade, bool]:
    """The grade that is on disk already for the same files, else a new one; and whether it was there."""
    digest = hash_of(submission, folder)
    if digest and (found := records.load(out, submission, plan, digest, version)):
        return found, True
    return grading.grade(submission, plan, folder, number), False


def _kept(grade: Grade, plan: Plan, out: Path, version: str) -> Grade:
    """Write the grade; where what the run said cannot be told in every report, it has no verdict."""
    try:
        records.save(out, grade, plan, version)
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError):
        grade = without_verdict(grade, plan, "no verdict: its run wrote results that cannot be shown")
        records.save(out, grade, plan, version)
    return grade


def _version() -> str:
    """Stands for all that judges: a grade by other checkpoints is no grade by these."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "checks").rglob("*.py")):
        if "classroom" not in path.parts:  # it counts and shows, and gives no verdict
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _work_folder(out: Path, others: Set[int]) -> Iterator[Path]:
    """An empty folder; at the end it is gone, and so is all that was started meanwhile."""
    work = out / WORK
    shutil.rmtree(work, ignore_errors=True)  # a run that was killed left it
    work.mkdir()
    adopt_orphans()
    try:
        yield work
    finally:
        end_descendants(others)
        adopt_orphans(adopt=False)
        shutil.rmtree(work, ignore_errors=True)


def _end(executor: Executor, others: Set[int]) -> None:
    """End what runs, and start nothing more: it is graded by the next run."""
    executor.shutdown(wait=False, cancel_futures=True)
    end_descendants(others)
    executor.shutdown(wait=True)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Nobody else grades into this folder meanwhile; the lock ends with this process, however that ends."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another process is grading into {out}") from error
        yield
    finally:
        os.close(folder)
