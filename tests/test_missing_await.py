"""The call that lacks its `await`, found where the name got its value."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.harness.missing_await import where_not_awaited
from checks.harness.source_lines import SourceLines

SERVICE = """
from pydantic import BaseModel


class Answer(BaseModel):
    prediction: float


async def predict(features):
    return 1.0


async def named(features):
    await predict(features)
    answer = predict(features)
    shown = 2 * 3.0
    return Answer(prediction=answer)


async def computed(features):
    answer = predict(features)
    return answer + 1.0


async def inline(features):
    return predict(features) + 1.0


def helper(value):
    return value + 1.0


async def passed_on(features):
    answer = predict(features)
    return helper(answer)


async def renamed(features):
    ask = predict
    answer = ask(features)
    return answer + 1.0


async def right(features):
    return [][0]


async def handler(features):
    answer = predict(features)
    return {"prediction": answer}
"""
LINES = {
    "named": "answer = predict(",
    "computed": "answer = predict(",
    "passed_on": "answer = predict(",
    "renamed": "answer = ask(",
    "inline": "",
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The names in a learner's lab/service.py."""
    path = tmp_path / "lab" / "service.py"
    path.parent.mkdir()
    path.write_text(SERVICE)
    names: dict[str, Any] = {"__name__": "lab.service"}
    exec(compile(SERVICE, path, "exec"), names)
    yield names
    for coroutine in filter(inspect.iscoroutine, gc.get_objects()):
        if coroutine.__name__ == "predict":
            coroutine.close()  # else Python complains that nobody awaited it


@pytest.mark.filterwarnings("ignore")  # a coroutine that nobody keeps complains at once
@pytest.mark.parametrize("name", LINES)
def test_the_line_is_where_the_name_got_its_value(name: str, service: dict[str, Any], tmp_path: Path) -> None:
    """Not the line that could not use it; where both are one, the line of the exception will do."""
    with pytest.raises(Exception) as raised:
        asyncio.run(service[name]([1.0]))
    found = where_not_awaited(raised.value, SourceLines(tmp_path)) or ""

    assert LINES[name] in found
    assert bool(found) == bool(LINES[name])


def test_a_handler_is_searched_where_no_line_of_the_learners_raised(service: dict[str, Any], tmp_path: Path) -> None:
    """FastAPI refuses the answer after the handler has returned."""
    with pytest.raises(Exception) as raised:
        service["Answer"].model_validate(asyncio.run(service["handler"]([1.0])))
    found = where_not_awaited(raised.value, SourceLines(tmp_path), service["handler"])

    assert "in handler\n    answer = predict(features)" in str(found)


def test_another_exception_has_nothing_to_do_with_it(service: dict[str, Any], tmp_path: Path) -> None:
    """An IndexError names its own line."""
    with pytest.raises(IndexError) as raised:
        asyncio.run(service["right"]([1.0]))

    assert where_not_awaited(raised.value, SourceLines(tmp_path), service["handler"]) is None


UNDECORATED = """
def stage(name):
    yield name


def entered():
    with stage("model"):
        pass
"""


def test_of_a_generator_that_with_entered_the_function_is_named(tmp_path: Path) -> None:
    """It lacks its decorator, and the `with` is right."""
    (tmp_path / "lab").mkdir()
    path = tmp_path / "lab" / "timing.py"
    path.write_text(UNDECORATED)
    names: dict[str, Any] = {}
    exec(compile(UNDECORATED, str(path), "exec"), names)
    with pytest.raises(TypeError) as raised:
        names["entered"]()

    assert "lab/timing.py:2\n    def stage(name):" == where_not_awaited(raised.value, SourceLines(tmp_path))
