"""The forms of assertion that hold on a noisy machine."""

from __future__ import annotations

import pytest

from checks.harness.errors import Failure, Inconclusive
from checks.harness.grading.noise import (
    best_of,
    blame_the_machine_if,
    blame_the_machine_if_unanswered,
    blame_the_machine_unless,
)
from tests.clocks import Clock


def test_the_best_of_a_few_rounds_counts() -> None:
    """Rounds end at the first that reaches what is wanted."""
    rounds = iter([1.0, 5.0, 9.0])

    assert best_of(lambda: next(rounds), 4.0) == 5.0
    assert best_of(lambda: next(rounds), 4.0) == 9.0


def test_a_miss_in_every_round_is_the_best_of_them() -> None:
    """When none reaches it, the best one is told."""
    rounds = iter([1.0, 3.0, 2.0])

    assert best_of(lambda: next(rounds), 4.0) == 3.0


def test_a_control_that_misses_too_blames_the_machine() -> None:
    """Where the lab's own service fails to reach it, nobody can be judged: once is enough."""
    rounds = iter([5.0, 6.0, 3.0])

    with pytest.raises(Inconclusive, match=r"reached 3.0 of the wanted 4.0"):
        blame_the_machine_unless(lambda: next(rounds), 4.0, Clock(busy=False), "it")


def test_a_control_that_reaches_it_does_not() -> None:
    """Where the lab's own service always reaches it, the learner's could have, too."""
    rounds = iter([6.0, 5.0, 7.0])

    assert blame_the_machine_unless(lambda: next(rounds), 4.0, Clock(busy=False), "it") == 5.0


def test_a_miss_on_a_busy_machine_is_none() -> None:
    """Whatever a control would reach in the quieter seconds after it."""
    with pytest.raises(Inconclusive, match="to tell how fast it is"):
        blame_the_machine_unless(lambda: pytest.fail("it is measured"), 4.0, Clock(busy=True), "how fast it is")


def test_a_control_that_costs_too_much_blames_the_machine() -> None:
    """One that costs the same, as it must, blames nobody."""
    blame_the_machine_if(1.1, 3)
    with pytest.raises(Inconclusive, match=r"too busy: .* 3\.5 times as much"):
        blame_the_machine_if(3.5, 3)


def test_where_a_fault_is_likely_the_words_name_it_and_its_hint() -> None:
    """The verdict is the machine's, and the learner can try the hint all the same."""
    likely = Failure("it waited for 8 s", "an end after 1 s", "Give it a limit.", "lab/serve.py:7")

    assert (
        Failure(
            "too busy. Seen: it waited for 8 s",
            "an end after 1 s",
            "If it is so on an idle machine, too: Give it a limit.",
            "lab/serve.py:7",
        )
        == Inconclusive("too busy", likely).failure
    )
    assert Failure("too busy") == Inconclusive("too busy").failure


def test_a_request_without_an_answer_is_no_failure_on_a_busy_machine() -> None:
    """Unless as many fair seconds as an idle machine would need are over."""
    blame_the_machine_if_unanswered(Clock(busy=False), "/predict", 30)
    blame_the_machine_if_unanswered(Clock(busy=True), "/predict", 0)
    with pytest.raises(Inconclusive, match=r"^/predict was not answered within 30 s"):
        blame_the_machine_if_unanswered(Clock(busy=True), "/predict", 30)
