"""The progress bar of a class: how many are graded, what the last one got, and the time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from checks.harness.classroom.grading import Grade


class ProgressBar:
    """A bar in a terminal, and a line for each submission everywhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("grading", total=None)

    def __enter__(self) -> ProgressBar:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def begin(self, total: int) -> None:
        """So many submissions."""
        self._progress.update(self._task, total=total)

    def graded(self, grade: Grade, *, kept: bool) -> None:
        """A line for it; one that was graded before is no measure of the time left."""
        self._say(grade, " (as before)" if kept else "")
        if kept:
            self._progress.update(self._task, total=self._total() - 1)
        else:
            self._progress.advance(self._task)

    def retry(self, total: int) -> None:
        """As many more steps, one after the other."""
        if total:
            words = f"{total} inconclusive: judged again, one at a time"
            self._console.print(words, markup=False, highlight=False)
            self._progress.update(self._task, total=self._total() + total)

    def retried(self, grade: Grade) -> None:
        """A line for it."""
        self._say(grade, " (again)")
        self._progress.advance(self._task)

    def _total(self) -> float:
        return self._progress.tasks[0].total or 0

    def _say(self, grade: Grade, note: str) -> None:
        why = f": {grade.problem}" if grade.problem else ""
        unsure = f", no verdict on {', '.join(grade.unsettled)}" if grade.unsettled and not why else ""
        bonus = f" +{grade.run.bonus_points}" if grade.run.bonus_points else ""
        line = f"{grade.points:>3}/{grade.run.max_points}{bonus}  {grade.submission.name}{note}{unsure}{why}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
