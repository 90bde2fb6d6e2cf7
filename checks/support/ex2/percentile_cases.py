"""Inputs for `percentile`, and the name of the formula that a learner's answers follow."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from checks.harness.assertions.answers import calling, is_number, short
from checks.harness.errors import Failure
from checks.harness.judge.handles import each
from checks.harness.judge.made import where_made
from checks.harness.load.percentiles import other_percentiles
from checks.harness.load.percentiles import percentile as nearest_rank
from checks.harness.workspace import Workspace

TABLES: list[tuple[list[float], dict[int, float]]] = [  # the first two are Wikipedia's examples of the nearest rank
    ([15, 20, 35, 40, 50], {5: 15, 30: 20, 40: 20, 50: 35, 100: 50}),
    ([3, 6, 7, 8, 8, 10, 13, 15, 16, 20], {25: 7, 50: 8, 75: 15, 100: 20}),
    ([10, 20, 30, 40, 50, 60, 70, 80, 90, 100], {0: 10, 10: 10, 50: 50, 90: 90, 95: 100, 99: 100}),
    ([1, 2], {50: 1, 51: 2, 99: 2}),
    (list(range(1, 101)), {7: 7, 14: 14, 28: 28, 55: 55, 99: 99}),
]
SIZES = (1, 2, 5, 20, 100, 101)
RANK_HINT = (
    "Sort a copy (`sorted`). The rank is q * n / 100, rounded up, and at least 1. The sample is `ordered[rank - 1]`: "
    "indices start at 0."
)
FLOATS_HINT = (
    "Round up in whole numbers: `int(-(-q * n // 100))`. In floats 7 / 100 * 100 is 7.000000000000001, which gives 8."
)
SORT_HINT = "`sorted(samples)` gives a new list in ascending order; the rank counts places in that one."
COPY_HINT = "`sorted(samples)` gives a new list and leaves the caller's as it is; `.sort()` changes it."
FRACTION_HINT = "Round the rank, not q: `int(-(-q * n // 100))`."
SHARE_HINT = "q comes as a percentage, 95 and not 0.95: divide by 100."


@dataclass(frozen=True, slots=True)
class Case:
    """One call of `percentile`, and what it has to return."""

    samples: list[float]
    q: int
    expected: float

    @property
    def call(self) -> str:
        """The call in words."""
        return f"percentile([{short(self.samples)}], {self.q}) of {len(self.samples)} samples"

    @property
    def rank(self) -> int:
        """The rank of the expected sample, counted from 1."""
        return max(-(-self.q * len(self.samples) // 100), 1)


def cases(rng: random.Random) -> list[Case]:
    """The known tables, then random samples of each size with every q from 0 to 100; all in random order."""
    known = [(samples, q, expected) for samples, ranks in TABLES for q, expected in ranks.items()]
    for n in SIZES:
        samples = [round(rng.lognormvariate(3, 1), 2) for _ in range(n)]
        known += [(samples, q, nearest_rank(samples, q)) for q in range(101)]
    return [Case(rng.sample(samples, len(samples)), q, expected) for samples, q, expected in known]


def answered(percentile: Callable[[Any, Any], Any], asked: Sequence[Case], workspace: Workspace) -> list[float]:
    """What `percentile` returns for each case: a number, and the list that it was given is as it was."""
    given = [[*case.samples] for case in asked]
    results, answers = each(percentile, [(samples, case.q) for samples, case in zip(given, asked, strict=True)]), []
    for case, samples in zip(asked, given, strict=True):
        with calling(case.call, workspace):
            got = next(results)
        assert samples == case.samples, Failure(
            f"{case.call} put its list in order", wanted="the list as it was", hint=COPY_HINT
        )
        assert is_number(got), Failure(f"{case.call} returned {got!r}", wanted="one of the samples")
        answers.append(float(got))
    return answers


def follows_nearest_rank(
    percentile: Callable[[Any, Any], Any], asked: Sequence[Case], answers: Sequence[float], workspace: Workspace
) -> None:
    """Each answer is the expected one; of the first wrong one the formula is named, if one explains them all."""
    wrong = [(case, got) for case, got in zip(asked, answers, strict=True) if got != case.expected]
    if not wrong:
        return
    formula = _formula(asked, answers)
    (case, got), said = wrong[0], f", {formula}" if formula else ""
    raise AssertionError(
        Failure(
            f"{case.call} is {got:g}{said}",
            wanted=f"{case.expected:g}, the sample of rank {case.rank} in ascending order",
            hint=(hint := _hint(formula)),
            where=None if hint == SORT_HINT else where_made(workspace, percentile, [*case.samples], case.q),
        )
    )


def _formula(asked: Sequence[Case], answers: Sequence[float]) -> str:
    """The formula that gives all of these answers, or nothing. q = 0 and q = 100 are often cases of their own."""
    ideas: dict[str, bool] = {}
    for case, got in zip(asked, answers, strict=True):
        if 0 < case.q < 100 and len(case.samples) > 1:
            for name, value in other_percentiles(case.samples, case.q).items():
                ideas[name] = ideas.get(name, True) and math.isclose(value, got, rel_tol=1e-9)
    return next((name for name, explains_all in ideas.items() if explains_all), "")


def _hint(formula: str) -> str:
    for words, hint in (
        ("floats", FLOATS_HINT),
        ("before sorting", SORT_HINT),
        ("from the largest", SORT_HINT),
        ("as a share", SHARE_HINT),
    ):
        if words in formula:
            return hint
    return RANK_HINT


def loses_no_fraction(percentile: Callable[[Any, Any], Any], workspace: Workspace) -> None:
    """A q with a fraction, p99.5, is not taken for another one. To refuse it is fine: a whole q is all that is asked.

    All numbers are binary fractions, so no right formula rounds.
    """
    for n, q in ((200, 99.5), (8, 12.5), (8, 37.5)):
        samples, expected = list(range(1, n + 1)), q * n / 100
        try:
            got = percentile(samples, q)
        except (TypeError, ValueError):
            return
        assert got == expected, Failure(
            f"percentile([1, 2, ... {n}], {q}) is {got!r}",
            wanted=f"{expected:g}, of rank {expected:g}: q may have a fraction, as p99.9 has",
            hint=FRACTION_HINT,
            where=where_made(workspace, percentile, samples, q),
        )


def refuses(percentile: Callable[[Any, Any], Any], samples: list[float], q: float, workspace: Workspace) -> None:
    """`percentile` raises a ValueError for this call, which has no answer."""
    raised: BaseException | None = None
    try:
        what = f"returned {percentile(samples, q)!r}"
    except Exception as error:
        raised, what = error, f"raised {type(error).__name__}"
    what_is_wrong = "no samples" if not samples else f"q = {q:g}"
    assert isinstance(raised, ValueError), Failure(
        f"percentile({samples}, {q}) {what}",
        wanted="a ValueError, raised",
        hint=f"`raise ValueError(...)` for {what_is_wrong}, before anything is computed.",
        where=where_made(workspace, percentile, samples, q),
    )
