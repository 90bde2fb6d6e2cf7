"""What is read in answers and outputs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from checks.harness import ROOT
from checks.harness.assertions.answers import calling, close, content, is_number, json_lines, short
from checks.harness.errors import LearnerError
from checks.harness.workspace import open_workspace


def answer(text: str, status: int = 200) -> httpx.Response:
    """An answer with this body."""
    return httpx.Response(status, text=text, request=httpx.Request("GET", "http://localhost/x"))


def test_only_json_objects_are_lines() -> None:
    """Banners, tracebacks, numbers and half a line are passed over."""
    output = 'INFO: started\n{"event": "request"}\n3\n[1]\n{"event": \n  {"n": 2}\nTraceback'

    assert json_lines(output) == [{"event": "request"}, {"n": 2}]


def test_two_threads_may_print_on_one_line() -> None:
    """Their line ends follow, and say how many lines were meant."""
    assert json_lines('{"n": 1}{"n": 2}\n\n{"n": 3}\n') == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert json_lines('{"n": 1}{"n": 2}{"n": 3}\n\n') == [{"n": 1}, {"n": 2}]
    assert json_lines('{"n": 1}{"n": 2}\n{"n": 3}\n') == [{"n": 1}, {"n": 3}]
    assert json_lines('{"n": 1} and words\n\n') == []


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "3"])
def test_an_answer_that_is_no_object_is_told(text: str) -> None:
    """With what it was, and where."""
    with pytest.raises(AssertionError, match=r"/x answered .*\nwanted: a JSON object"):
        content(answer(text))


def test_small_words() -> None:
    """What a number is, when two are the same, and many in short."""
    assert [is_number(value) for value in (1, 1.5, True, "1", None)] == [True, True, False, False, False]
    assert close(0.1 + 0.2, 0.3)
    assert not close(0.3001, 0.3)
    assert short([1.0, 2.5, 3.0]) == "1, 2.5, 3"
    assert short([1.0, 2.0, 3.0, 4.0]) == "1, 2, 3, ..."


def test_what_a_call_raises_is_told_with_the_call(tmp_path: Path) -> None:
    """In plain words where Python's are not; a stub stays a stub, an assertion what it is."""
    workspace = open_workspace(ROOT, ROOT / "solutions", tmp_path / "tree")

    def told(error: Exception) -> BaseException:
        with pytest.raises(Exception) as caught, calling("thing(3)", workspace):
            raise error
        return caught.value

    assert str(told(ZeroDivisionError("division by zero"))).startswith("thing(3) raised ZeroDivisionError: division")
    assert "is `@contextmanager` above it" in str(
        told(TypeError("'list' object does not support the context manager protocol"))
    )
    for passed_on in (NotImplementedError("a stub"), AssertionError("a check"), LearnerError("told already")):
        assert told(passed_on) is passed_on
