"""Exceptions in plain words: what Python really raises, and the hint that mends it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from checks.harness import ROOT
from checks.harness.missing import FILES, most_like
from checks.harness.plain_words import describe, hint_for

NAMES = """
import asyncio, pickle, threading
from contextlib import contextmanager
from fastapi import FastAPI
from pydantic import BaseModel

class Model(BaseModel):
    inputs: list[float] = []
    def predict_blocking(self): ...

class Probe:
    async def predict(self, features): ...
    def predict_blocking(self, features): ...

class Middleware:
    async def __call__(self, scope, receive, send): ...

@contextmanager
def empty():
    return iter(())

async def value():
    return 1.0

def handler(model: Model | Middleware): ...
"""

# what runs in an `async def`: words of its description, words of its hint
RAISED = {
    "async with asyncio.wait_for(value(), 1): pass": ("given a coroutine", "asyncio.timeout"),
    "async with threading.Lock(): pass": ("asynchronous context", "a plain `with`, which an `async def` may contain"),
    "with asyncio.Lock(): pass": ("context manager", "asyncio's Lock takes `async with`"),
    "with empty(): pass": ("needs one `yield`", "exactly one `yield`"),
    "with empty: pass": ("it is not called", "call it"),
    "await 1.0": ("'await' expression", "leave out the `await`"),
    "len(value())": ("an `await` is missing", "`await` in front of the call"),
    "value() + 1": ("an `await` is missing", "`await` in front of the call"),
    "value().real": ("an `await` is missing", "`await` in front of the call"),
    "asyncio.run(value())": ("asyncio.run() cannot be called", "use `await`"),
    "Middleware()(None)": ("wants the class, not an object", "app.add_middleware(TheMiddleware"),
    "FastAPI().get('/')(handler)": ("its `Depends(...)` is missing", "model: Model"),
    "FastAPI().state.model": ("no attribute 'model'", "Nothing has set `app.state.model`"),
    "pickle.dumps(Probe())": ("the lab's model cannot go to another process", "await model.predict"),
    "pickle.dumps(lambda: 1.0)": ("lambda", "a name at the top of a module"),
    "Model().blocking_predict()": ("no attribute 'blocking_predict'", "There is `predict_blocking`"),
    "os.getpid()": ("NameError: name 'os'", "`import os` at the top"),
    "fmaen([1.0])": ("NameError: name 'fmaen'", "Is `fmaen` spelled right"),
    "fmean([1.0])": ("NameError: name 'fmean'", "`from statistics import fmean`"),
    "value = value()": ("UnboundLocalError", "another name"),
    "Probe().run([1.0])": ("AttributeError: the model has no `run`", "`await model.predict(features)`"),
    "Probe()([1.0])": ("the model itself is not a function", "`await model.predict(features)`"),
    "Model().features": ("no attribute 'features'", "There is `inputs`"),
    "import os; os.environ['NOWHERE_AT_ALL']": ("KeyError: 'NOWHERE_AT_ALL'", "takes a default"),
    "answer = {}; answer['pid']": ("KeyError: 'pid'", '"pid": os.getpid()'),
    "None.answer": ("'NoneType' object", "without `return`"),
    "from asyncio import wait_four": ("cannot import name 'wait_four'", "There is `wait_for`"),
    "import nonsense": ("No module named 'nonsense'", "spelled right"),
    "from asyncio import snooze": ("cannot import name 'snooze'", "Is `snooze` spelled as it is in its file"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("code", RAISED)
def test_an_exception_is_described_and_mended(code: str) -> None:
    """In words about the mistake, with a hint about this exception and no other."""
    names: dict[str, Any] = {}
    exec(f"{NAMES}\nasync def mistake():\n    {code}", names)
    with pytest.raises(Exception) as raised:
        asyncio.run(names["mistake"]())

    words, hint = RAISED[code]
    assert words in describe(raised.value)
    assert hint in hint_for(raised.value)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("found = {'predictions': 1}; found['prediction']", "no key 'prediction'. There is `predictions`: is that the"),
        ("found = {'a': 1, 'b': 2}; found['zzz']", "`found` has no key 'zzz'. There is `a`, `b`."),
        ("found = {}; found['zzz']", "`found` has no key 'zzz'. It is empty."),
        ("{}['zzz']", "There is no key 'zzz'"),
    ],
)
def test_a_key_that_is_missing_is_told_with_those_that_are_there(code: str, hint: str, tmp_path: Path) -> None:
    """Of the dictionary in the raising line, where that has a name."""
    path = tmp_path / "mistake.py"
    path.write_text(code)
    with pytest.raises(KeyError) as raised:
        exec(compile(code, path, "exec"), {})

    assert hint in hint_for(raised.value)


def test_a_file_of_the_lab_that_was_deleted_can_be_brought_back() -> None:
    """Where another file imports it. The names are those that the lab has."""
    gone = ModuleNotFoundError("No module named 'lab.model'", name="lab.model")

    assert hint_for(gone) == "`git checkout lab/model.py` brings it back as it was committed last."
    assert sorted(FILES) == sorted(path.stem for path in (ROOT / "lab").glob("[!_]*.py"))


def test_an_exception_without_a_remedy_has_no_hint() -> None:
    """A hint that mends something else is worse than none."""
    assert describe(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert hint_for(ZeroDivisionError("division by zero")) == ""
    assert describe(KeyError()) == "KeyError"
    assert hint_for(TypeError("cannot pickle '_thread.lock' object")) == ""


def test_a_coroutine_for_a_value_lacks_an_await() -> None:
    """Pydantic says much about it; one thing is wrong."""

    class Answer(BaseModel):
        prediction: float

    coroutine = asyncio.sleep(1)
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Answer).validate_python({"prediction": coroutine})
    coroutine.close()

    assert describe(caught.value) == (
        "ValidationError: a coroutine was given where a value is wanted: an `await` is missing"
    )


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("predict_blocking", ["predict", "blocking_predict", "seconds"], "blocking_predict"),
        ("predict_blocking", ["predict", "seconds"], ""),
        ("predict", ["predict_async", "predict_blocking"], ""),
        ("create_app", ["created_app", "router"], "created_app"),
        ("burst_seconds", ["burstSeconds", "math"], "burstSeconds"),
        ("burst_seconds", [], ""),
    ],
)
def test_the_same_name_spelled_differently_is_found(name: str, names: list[str], found: str) -> None:
    """In another order, with a letter more, in another case; a different name is not taken for it."""
    assert most_like(name, names) == found
