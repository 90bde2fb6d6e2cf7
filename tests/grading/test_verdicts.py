"""From an exception to a verdict, in words for a learner."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from checks.harness.grading.verdicts import outcome_of
from checks.harness.judge.raised import raised
from checks.harness.source_lines import SourceLines

THING = """
class Model:
    def blocking_predict(self, features):
        return features


def create_app():
    return None
"""


@pytest.fixture
def thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A learner's module."""
    path = tmp_path / "lab" / "thing.py"
    path.parent.mkdir()
    path.write_text(THING)
    module = ModuleType("lab.thing")
    monkeypatch.setitem(sys.modules, "lab.thing", module)
    exec(compile(THING, path, "exec"), vars(module))
    return module


def test_a_renamed_method_is_found_under_its_new_name(thing: ModuleType, tmp_path: Path) -> None:
    """The hint names it, and the line is its own."""
    with pytest.raises(AttributeError) as error:
        thing.Model().predict_blocking([1.0])
    outcome = outcome_of(error.value, SourceLines(tmp_path))

    assert (outcome.verdict, outcome.failure.seen) == ("failed", "lab/thing.py has no `predict_blocking` in Model")
    assert outcome.failure.hint == "There is `blocking_predict`: renamed? The checks use `predict_blocking`."
    assert str(outcome.failure.where).startswith("lab/thing.py:3")


def test_a_name_that_nothing_resembles_has_no_hint(thing: ModuleType, tmp_path: Path) -> None:
    """A wrong guess would send a learner the wrong way."""
    with pytest.raises(AttributeError) as error:
        thing.burst_seconds()
    outcome = outcome_of(error.value, SourceLines(tmp_path))

    assert (outcome.failure.seen, outcome.failure.hint) == ("lab/thing.py has no `burst_seconds`", "")


def test_a_signature_of_its_own_is_named_with_its_line(thing: ModuleType, tmp_path: Path) -> None:
    """The `def` line is the one that has to change."""
    with pytest.raises(TypeError) as error:
        thing.create_app("settings")
    outcome = outcome_of(error.value, SourceLines(tmp_path))

    assert outcome.failure.seen.startswith("calling your code does not work: create_app() takes 0")
    assert outcome.failure.hint.endswith("The checks call it as the stub has it.")
    assert str(outcome.failure.where).startswith("lab/thing.py:7")


def test_what_a_call_in_a_cell_raises_at_once_is_the_learners(tmp_path: Path) -> None:
    """A cache of functools raises in C, with no line of the learner's. What has lines of the lab's is the lab's."""
    told: dict[str, Any] = {
        "type": "TypeError",
        "bases": ["TypeError"],
        "text": "unhashable type: 'list'",
        "said": "TypeError()",
    }
    told |= {"breakpoint": False, "ours": None, "not_awaited": None, "attributes": {}, "hint": "", "key": None}
    told |= {"called": None}
    at_once = outcome_of(raised({**told, "frames": []}, tmp_path), SourceLines(tmp_path))
    ours = [("/lab/checks/harness/cell/apps.py", 55, "_start", "checks.harness.cell.apps")]
    later = outcome_of(raised({**told, "frames": ours}, tmp_path), SourceLines(tmp_path))

    assert ("failed", "lab_error") == (at_once.verdict, later.verdict)
    assert at_once.failure is not None
    assert at_once.failure.seen == "calling your code raised TypeError: unhashable type: 'list'"
