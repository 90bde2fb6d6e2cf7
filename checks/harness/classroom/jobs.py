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
from collections.abc import Iterable, Iterator, Sequence, Set
from concurrent.futures import Executor, Future, as_completed, wait
from pathlib import Path
from typing import Any, Protocol

from checks.harness import ROOT
from checks.harness.classroom import grading, records
from checks.harness.classroom.grading import Grade, Plan, again, hash_of, lost, to_run_again, without_verdict
from checks.harness.classroom.submissions import Submission
from checks.harness.errors import printable
from checks.harness.grading.isolation import adopt_orphans, end_descendants
from checks.harness.processes.process_group import descendants

WORK = ".work"
"""The folder among the grades where submissions lie while they are judged."""
ENDING_ROUNDS = 30


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
        checks = version()
        listener.begin(len(submissions))
        grades: dict[int, Grade] = {}
        futures: dict[Future[tuple[Grade, bool]], int] = {}
        try:
            for number, one in enumerate(submissions):
                futures[executor.submit(_found_or_graded, one, plan, out, work / str(number), number, checks)] = number
            for future in as_completed(futures):
                number = futures[future]
                grade, kept = _result(future, submissions[number], plan)
                grades[number] = grade if kept else _kept(grade, plan, out, checks)
                listener.graded(grades[number], kept=kept)
            unsure = [n for n, one in grades.items() if not one.retried and to_run_again(one.run, plan)]
            listener.retry(len(unsure))
            for number in sorted(unsure):
                second = executor.submit(again, grades[number], plan, work / str(number), number)
                with contextlib.suppress(Exception):  # lost with its worker: the first grade stands
                    grades[number] = _kept(second.result(), plan, out, checks)
                listener.retried(grades[number])
        except BaseException:
            _end(executor, futures, others, work)
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


def _end(executor: Executor, futures: Iterable[Future[Any]], others: Set[int], work: Path) -> None:
    """End what runs, and start nothing more: it is graded by the next run. Runs elsewhere end without their folders."""
    executor.shutdown(wait=False)
    for future in futures:
        future.cancel()
    for _ in range(ENDING_ROUNDS):  # one may just be about to start
        end_descendants(others)
        shutil.rmtree(work, ignore_errors=True)
        if not wait(futures, timeout=1).not_done:
            return


def _result(future: Future[tuple[Grade, bool]], submission: Submission, plan: Plan) -> tuple[Grade, bool]:
    """What came of it; a worker that is lost with its machine costs this submission its verdict, and nobody else."""
    try:
        return future.result()
    except Exception as error:
        said = printable(f"{type(error).__name__}: {error}").replace("\n", " ")
        return lost(submission, plan, f"no verdict: the process that graded it was lost ({said})"), False


def _kept(grade: Grade, plan: Plan, out: Path, version: str) -> Grade:
    """Write the grade; where what the run said cannot be told in every report, it has no verdict."""
    try:
        records.save(out, grade, plan, version)
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError):
        grade = without_verdict(grade, plan, "no verdict: its run wrote results that cannot be shown")
        records.save(out, grade, plan, version)
    return grade


def version() -> str:
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
    work.chmod(0o711)  # a run may be another user's, which has to reach its own folder in here
    adopt_orphans()
    try:
        yield work
    finally:
        end_descendants(others)
        adopt_orphans(adopt=False)
        shutil.rmtree(work, ignore_errors=True)


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
