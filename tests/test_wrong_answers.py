"""Named wrong answers fail exactly the checkpoints they name, in words that fit; right ones pass them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from tests.answers import ANSWERS, HERE, Answer, Case, about, default_cases, exhaustive_cases
from tests.exercises import EXERCISES
from tests.runs import Judged
from tests.waiting import SECOND_TRY


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A part of the answers, or with `--exhaustive` all of them."""
    if "case" in metafunc.fixturenames:
        cases = exhaustive_cases() if metafunc.config.getoption("exhaustive") else default_cases()
        marked = [pytest.param(case, marks=pytest.mark.cost(case.cost)) for case in cases.values()]
        metafunc.parametrize("case", marked, ids=cases)


@pytest.fixture(scope="session")
def in_cell(request: pytest.FixtureRequest) -> Callable[[Case, Path], Judged]:
    """Judges a case as a learner's own run does, or in the cell of `--cell`."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    return partial(Case.run, cell=request.config.getoption("cell"), number=int(worker.removeprefix("gw")))


def test_an_answer_gets_the_verdicts_it_deserves(
    case: Case,
    in_cell: Callable[[Case, Path], Judged],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The checkpoints that an answer names fail or are locked, all others pass, and what is said fits the mistake.

    A wrong answer that a crowded machine let pass is judged once more, and the summary lists it. A right answer has no
    second try: it must never fail.
    """
    try:
        case.assert_deserved(in_cell(case, tmp_path / "first"))
    except AssertionError as error:
        if not case.answer.fails:
            raise
        record_property(SECOND_TRY, str(error).partition("\n")[0])
        case.assert_deserved(in_cell(case, tmp_path / "second"))


def test_what_needs_an_engine_runs_for_live_answers_alone() -> None:
    """Named by one of the others it would be locked on one machine, and judged on another."""
    engines = [checkpoint for checkpoint in EXERCISES[5].checkpoints if checkpoint.needs_engine]

    assert ["5.5"] == [checkpoint.id for checkpoint in engines]
    assert not any(answer.wants(checkpoint) for answer in HERE.values() for checkpoint in engines)
    assert Answer(5, "frozen", [], ["5.5"], live=True).wants(engines[0])


def test_every_wrong_answer_says_what_is_said_of_it_and_what_mends_it() -> None:
    """Words and hint of each failure; "" says that no hint may be shown."""
    silent = [name for name, answer in ANSWERS.items() if answer.fails and not (answer.says and answer.hints)]

    assert silent == []


def _failing(answers: Iterable[Answer], number: int) -> Counter[str]:
    """How many of the answers fail each checkpoint of an exercise."""
    return Counter(checkpoint for answer in answers if answer.exercise == number for checkpoint in answer.fails)


@pytest.mark.parametrize("number", EXERCISES)
def test_every_checkpoint_is_failed_by_two_named_wrong_answers(number: int) -> None:
    """A checkpoint that hardly any mistake fails proves nothing: two are named, and two are tried in any run."""
    every, tried = (
        _failing(ANSWERS.values(), number),
        _failing([case.answer for case in default_cases().values()], number),
    )
    checkpoints = EXERCISES[number].checkpoints

    assert all(every[checkpoint.id] >= 2 for checkpoint in checkpoints), every
    assert all(tried[checkpoint.id] >= 2 for checkpoint in checkpoints if not checkpoint.needs_engine), tried


def test_every_checkpoint_that_has_a_right_answer_of_its_own_is_tried_with_one() -> None:
    """And every exercise has some."""
    right = [answer for answer in HERE.values() if answer.right]
    own = {checkpoint for answer in right for checkpoint in about(answer)}
    tried = {checkpoint for case in default_cases().values() if case.answer.right for checkpoint in case.checkpoints}

    assert own == tried
    assert set(EXERCISES) == {answer.exercise for answer in right}
