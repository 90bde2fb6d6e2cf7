"""A stub that is reached: the next thing to write, or one that belongs to a later exercise."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.harness.grading.stubs import stub_reached
from checks.harness.source_lines import SourceLines
from tests.conftest import Judge

SERVICE = '''"""Uses `lifespan` of a later exercise."""
from contextlib import asynccontextmanager
from fastapi import FastAPI


@asynccontextmanager
async def lifespan(app):
    raise NotImplementedError("4.3: lifespan")
    yield  # TODO(4.3): FastAPI(lifespan=lifespan)


def create_app():
    return FastAPI(title="x", lifespan=lifespan)
'''


@pytest.fixture
def lines(tmp_path: Path) -> SourceLines:
    """A learner's folder with one module."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "service.py").write_text(SERVICE)
    return SourceLines(tmp_path)


def test_the_stub_of_a_later_exercise_is_told_from_the_next_thing_to_write(lines: SourceLines) -> None:
    """With its checkpoint, and the line that uses it: no comment and no docstring."""
    failure = stub_reached("4.3: lifespan", "lab/service.py:8 in lifespan", lines, "1.1")

    assert "`lifespan`, a stub that belongs to a later checkpoint: 4.3, in exercise 4" in failure.seen
    assert "delete what uses it" in failure.hint
    assert failure.where == 'lab/service.py:13\n    return FastAPI(title="x", lifespan=lifespan)'


@pytest.mark.parametrize("words", ["1.7: get_model", "4.4: POST /predict/enriched", ""])
def test_a_stub_of_its_own_exercise_is_just_not_started(words: str, lines: SourceLines) -> None:
    """Also one of an earlier exercise, and one without a number."""
    failure = stub_reached(words, "lab/service.py:8 in lifespan", lines, "4.3")

    assert failure.seen == (words or "a stub that is still to be filled in")
    assert (failure.hint, failure.where) == ("", "lab/service.py:8 in lifespan")


def test_a_learner_reads_which_checkpoint_it_belongs_to(solution: Path, judge: Judge) -> None:
    """`lifespan` of exercise 4, handed to FastAPI while exercise 1 is written."""
    path = solution / "lab" / "service.py"
    text = path.read_text()
    settings = "    settings: Settings = app.state.settings\n    current_default"
    path.write_text(text.replace(settings, '    raise NotImplementedError("4.3: lifespan")\n' + settings))

    run = judge(solution, "checks/test_ex1.py", "-k", "1.1")

    run.assert_verdicts({"1.1": "not_started"})
    assert "belongs to a later checkpoint: 4.3, in exercise 4" in run.checkpoints["1.1"]["seen"]
    assert "lifespan=lifespan" in run.checkpoints["1.1"]["where"]
    assert run.card.rstrip().splitlines()[-1].startswith("1 not started, ")
