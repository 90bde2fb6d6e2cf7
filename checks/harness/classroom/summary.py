"""The numbers over a whole class: who has how many points, what failed with which words, who is alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from checks.harness.classroom.grading import Grade, Plan
from checks.harness.classroom.likeness import Pair, alike
from checks.harness.report.results import Checkpoint, Verdict

BUCKETS = 10
WORDS = 3


@dataclass(frozen=True)
class Column:
    """How many of the class have points from `low` to `high`, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class Missed:
    """A checkpoint over the whole class: how many have which verdict, and what most of those that failed were told."""

    id: str
    title: str
    verdicts: Counter[Verdict]
    words: list[tuple[str, int]]


@dataclass(frozen=True)
class Summary:
    """What `summary.html` shows."""

    plan: Plan
    grades: Sequence[Grade]
    max_points: int
    distribution: list[Column]
    checkpoints: list[Missed]
    pairs: list[Pair]

    @property
    def unsettled(self) -> list[tuple[Grade, list[str]]]:
        """Submissions with checkpoints that have no verdict, and which: to be run again, or looked at."""
        return [(grade, ids) for grade in self.grades if (ids := grade.unsettled)]


def summarise(grades: Sequence[Grade], plan: Plan) -> Summary:
    """The numbers over the whole class."""
    most = grades[0].run.max_points if grades else 0
    by_checkpoint: dict[str, list[Checkpoint]] = {}
    for grade in grades:
        for checkpoint in grade.run.checkpoints:
            by_checkpoint.setdefault(checkpoint.id, []).append(checkpoint)
    missed = [_missed(found) for found in by_checkpoint.values()]
    return Summary(
        plan=plan,
        grades=grades,
        max_points=most,
        distribution=_distribution([grade.points for grade in grades], most),
        checkpoints=sorted(missed, key=lambda one: -one.verdicts["failed"]),
        pairs=alike({grade.submission.name: grade.code for grade in grades}),
    )


def _missed(found: Sequence[Checkpoint]) -> Missed:
    said = Counter(re.sub(r"\d+(\.\d+)?", "N", c.seen.partition("\n")[0]) for c in found if c.verdict == "failed")
    return Missed(found[0].id, found[0].title, Counter(c.verdict for c in found), said.most_common(WORDS))


def _distribution(points: Sequence[int], most: int) -> list[Column]:
    """At most ten columns of equal width over the points that there are."""
    width = -(-(most + 1) // BUCKETS)
    lows = range(0, most + 1, width)
    return [Column(low, min(low + width - 1, most), sum(low <= p < low + width for p in points)) for low in lows]
