"""Places in a module are found by what is written there."""

from __future__ import annotations

import ast

import pytest

from checks.harness import syntax

MODULE = ast.parse(
    '''
COUNTED = {}
LIMIT = 3

class Kept:
    """Pops nothing: `.pop()`."""

    rows = []

    def __init__(self, run, most, window):
        self.most, self.window = most, window
        self.wait = window
        COUNTED[run] = 0

    def ask(self):
        while self.wait or self.most:
            self.rows.pop()
        return self.rows[:LIMIT] if self.rows else [row for row in self.rows if row]

def outer(rate):
    return inner(rate) + 1

def inner(rate):
    return 1 / (1 - rate.item_seconds)
'''
)


def test_lines_of_conditions_and_of_what_takes_items() -> None:
    """A condition inside an expression counts, a word in a docstring does not."""
    assert syntax.tests(MODULE) == {16, 18}
    assert syntax.takes(MODULE) == {17, 18}


def test_a_function_is_followed_to_those_that_it_calls() -> None:
    """The first line of what is wanted in any of them."""
    assert syntax.first_reached(MODULE, "outer", syntax.rest_of_one) == 24
    assert syntax.first_reached(MODULE, "outer", syntax.reads("item_seconds")) == 24
    assert syntax.first_reached(MODULE, "outer", syntax.reads("rows")) is None


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("self.window = window", syntax.Uses()),
        ("self.window = window / 1000", syntax.Uses(computed=3)),
        ("self.window = window or 5.0", syntax.Uses(tested=3)),
        ("self.window = 0.0", syntax.Uses(unused=2)),
    ],
)
def test_what_becomes_of_a_value_that_a_class_is_made_with(written: str, found: syntax.Uses) -> None:
    """It is computed with, tested for truth, or not used at all."""
    tree = ast.parse(f"class Kept:\n    def __init__(self, window):\n        {written}")

    assert syntax.uses(tree, "Kept", 1) == found


def test_what_a_field_keeps_is_followed() -> None:
    """`self.wait` has what `__init__` was given."""
    assert syntax.uses(MODULE, "Kept", 3) == syntax.Uses(tested=16)


def test_a_state_that_instances_share() -> None:
    """In the class's body before the module's, and there only what the class reads."""
    alone = ast.parse("ROWS = []\nOTHERS = []\nclass Kept:\n    def ask(self):\n        return OTHERS")

    assert syntax.shared(MODULE, "Kept") == 8
    assert syntax.shared(alone, "Kept") == 2
    assert syntax.shared(alone, "Lost") is None
