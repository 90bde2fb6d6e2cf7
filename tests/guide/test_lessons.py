"""The lessons as the guide reads them."""

from __future__ import annotations

import pytest

from checks.harness import ROOT
from lab_guide import lessons
from tests.exercises import EXERCISES


@pytest.mark.parametrize("number", EXERCISES)
def test_each_checkpoint_has_its_step(number: int) -> None:
    """The steps of a lesson name every checkpoint of its exercise once, and files that are there."""
    steps = lessons.steps(lessons.path(ROOT, number).read_text())
    passes = [name for step in steps for name in step.passes]

    assert sorted(passes) == sorted(c.id for c in EXERCISES[number].checkpoints)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert all((ROOT / file).is_file() for step in steps for file in step.files)


def test_a_row_without_a_file_is_about_that_of_the_row_above() -> None:
    """A step without a file of its own has that of the step before; an id in brackets is a mark, and does not pass."""
    text = "## The work\n|1|`a.py`|`x`|1.1|\n| 2 | | `y` | 1.2, 1.3 (marked 1.4) |\n## Then\n|3|`b.py`|`z`|1.5|\n"

    assert [
        lessons.Step(1, ("a.py",), "`x`", ("1.1",), ("1.1",)),
        lessons.Step(2, ("a.py",), "`y`", ("1.2", "1.3"), ("1.2", "1.3", "1.4")),
    ] == lessons.steps(text)
