"""Which exercises and checkpoints there are, read from `checks/test_exN.py` without running anything."""

from __future__ import annotations

from dataclasses import dataclass

from checks.harness.grading.markers import EXERCISES, headline, markers
from checks.harness.report.results import BONUS
from lab_guide import ROOT
from lab_guide.lessons import Step, path, steps


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the marker and the docstring of a checkpoint say."""

    id: str
    title: str
    why: str
    points: int
    needs: list[str]


@dataclass(frozen=True, slots=True)
class Exercise:
    """One file of checkpoints, and the steps of its lesson."""

    number: int
    title: str
    checkpoints: list[Checkpoint]
    steps: list[Step]

    @property
    def bonus(self) -> bool:
        """Whether its points are counted beside the others."""
        return self.number in BONUS

    @property
    def ids(self) -> list[str]:
        """The numbers of its checkpoints."""
        return [c.id for c in self.checkpoints]

    @property
    def quick(self) -> bool:
        """Whether it takes seconds, so that a save may run all of it: nothing in it runs Locust."""
        return self.number not in (3, 4)


def catalogue() -> list[Exercise]:
    """All exercises, in their order."""
    return [_exercise(number) for number in EXERCISES]


def touched(exercises: list[Exercise], files: set[str], chosen: int) -> int:
    """The exercise that a change of these files is about: the chosen one, unless all of them are another one's."""
    about = [e.number for e in exercises if files & {file for step in e.steps for file in step.files}]
    return chosen if chosen in about or not about else about[0]


def _exercise(number: int) -> Exercise:
    title = headline(number)[0]
    checkpoints = [Checkpoint(one.id, one.title, one.why, one.points, list(one.needs)) for one in markers(number)]
    lesson = path(ROOT, number).read_text(encoding="utf-8")
    return Exercise(number, title[:1].upper() + title[1:], checkpoints, steps(lesson))
