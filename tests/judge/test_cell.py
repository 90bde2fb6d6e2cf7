"""A cell, from the judge's side: what is called in it behaves as it would here, and its end is noticed."""

from __future__ import annotations

import math
import os
import threading
from uuid import uuid4

import psutil
import pytest

from checks.harness.errors import CellEnded, LearnerError
from checks.harness.grading.verdicts import outcome_of
from checks.harness.judge.handles import Handle, each, records
from tests.judge.conftest import WAYS, Learner, runs
from tests.waiting import until

SHOP = '''
"""A module."""

import math

PRICES = {"tea": 2.5, 3: (1, None)}


class Window:
    """A window."""

    def __init__(self, size):
        self.size, self.kept = size, []

    def record(self, value):
        self.kept = [*self.kept, value][-self.size :]

    def summary(self):
        return {"count": len(self.kept), "of": self.kept}


def same(value, *, twice=False):
    return (value, value) if twice else value


def spoil(values, table):
    values.sort()
    table["new"] = [1]


def merged(windows):
    return [one.summary()["count"] for one in windows]


def slower(step):
    from lab.records import Step

    return Step(step.users, step.requests_per_second, step.mean_ms * 2, math.inf, 0.0)
'''


@pytest.mark.parametrize("way", WAYS)
def test_functions_and_objects_work_as_they_do_here(learner: Learner) -> None:
    """Arguments go in and answers come out as plain data; an object keeps its state in the cell."""
    shop = learner.wrote(SHOP)
    window = shop.Window(2)
    for value in (1.0, math.inf, 3):
        window.record(value)

    assert {"count": 2, "of": [math.inf, 3]} == window.summary()
    assert ((1, None), (1, None)) == shop.same((1, None), twice=True)
    assert {"tea": 2.5, 3: (1, None)} == shop.PRICES
    assert [2, 0] == shop.merged([window, shop.Window(1)])


def test_what_a_call_does_to_its_arguments_is_seen(learner: Learner) -> None:
    """Lists and dicts are afterwards what the learner's function has made of them; what it leaves alone stays."""
    values, table, other = [3.0, 1.0], {"a": 1}, [2, 1]
    shop = learner.wrote(SHOP)
    shop.spoil(values, table)
    shop.same(other)

    assert ([1.0, 3.0], {"a": 1, "new": [1]}, [2, 1]) == (values, table, other)


def test_records_are_the_judges_own_on_this_side(learner: Learner) -> None:
    """They go in and come out as records; what comes out is compared by the judge's class, not the learner's."""
    kind = records().Step
    got = learner.wrote(SHOP).slower(kind(3, 10.0, 100.0, 200.0, 0.0))

    assert kind(3, 10.0, 200.0, math.inf, 0.0) == got
    assert kind is type(got) is learner.cell.load("records").Step


def test_what_is_no_data_is_a_handle(learner: Learner) -> None:
    """Equal only to itself, whatever its class says; a subclass of a number comes as the number that it is."""
    thing = learner.wrote(
        "class Yes:\n    __eq__ = lambda self, other: True\n    __hash__ = None\n"
        "class Same(float):\n    __eq__ = lambda self, other: True\n    __hash__ = None\n"
        "yes, same = Yes(), Same(3)\ndef generated():\n    yield 1\n"
        "def circle():\n    x = []\n    x.append(x)\n    return x\n"
    )

    assert thing.yes != 1
    assert thing.yes == thing.yes
    assert thing.same != 4
    assert float is type(thing.same)
    assert isinstance(thing.generated(), Handle)
    assert "<generator object generated at" in repr(thing.generated())
    assert "[[...]]" == repr(thing.circle())


@pytest.mark.parametrize("code", ["'x' * 9_000_000", "[1.5] * 3_000_000"])
def test_an_answer_too_large_for_a_message_is_no_data(learner: Learner, code: str) -> None:
    """It has a `repr` that says so, and the cell goes on."""
    thing = learner.wrote(f"def large():\n    return {code}\ndef small():\n    return 1\n")

    assert "more than 8 MiB" == repr(thing.large())
    assert 1 == thing.small()


def test_many_calls_go_in_a_few_messages(learner: Learner) -> None:
    """In their order, each with what became of its own arguments; a plain function is called the same way."""
    thing = learner.wrote("def grow(values, by):\n    values.append(by)\n    return len(values) * by\n")
    calls: list[tuple[list[int], int]] = [([0] * (n % 3), n) for n in range(500)]
    got = [*each(thing.grow, calls)]

    assert [(n % 3 + 1) * n for n in range(500)] == got
    assert [[0] * (n % 3) + [n] for n in range(500)] == [values for values, _ in calls]
    assert [3, 1] == [*each(max, [(1, 3), (1, 0)])]


def test_a_call_among_many_raises_in_its_turn(learner: Learner) -> None:
    """What came before has its results, and what comes after is not called."""
    thing = learner.wrote(
        "asked = []\ndef invert(n):\n    asked.append(n)\n    return 1 / n\ndef calls():\n    return asked\n"
    )
    results = each(thing.invert, [(n,) for n in (1, 2, 4, 5, 8, 0, 3)])

    assert [1.0, 0.5, 0.25, 0.2, 0.125] == [next(results) for _ in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert [1, 2, 4, 5, 8, 0] == thing.calls()


ERRORS = """
import math

class Full(ValueError):
    pass

def full():
    raise Full("no place")

def twice():
    try:
        full()
    except Full as error:
        raise RuntimeError("again") from error

def stub():
    raise NotImplementedError("later")

def misspelled():
    return math.cei(1)

def strange():
    b"\\xff".decode()

def stop():
    raise KeyboardInterrupt

def many():
    raise ExceptionGroup("many", [Full("one"), OSError(2, "two")])

def deep():
    return deep()

class Window:
    def __init__(self):
        pass

    def record(self):
        pass
"""


def test_an_exception_is_below_the_same_builtin_one(learner: Learner) -> None:
    """With its name, its words, its cause and the learner's lines."""
    thing = learner.wrote(ERRORS)
    with pytest.raises(RuntimeError, match="again") as caught:
        thing.twice()
    cause = caught.value.__cause__

    assert "lab/thing.py:14 in twice\n    raise RuntimeError" in str(
        learner.workspace.where_raised(caught.value.__traceback__)
    )
    assert isinstance(cause, ValueError)
    assert ("Full", "no place") == (type(cause).__name__, str(cause))
    assert "lab/thing.py:8 in full" in str(learner.workspace.where_raised(cause.__traceback__))


@pytest.mark.parametrize(
    ("call", "kind", "verdict", "said"),
    [
        ("stub", NotImplementedError, "not_started", "later"),
        ("misspelled", AttributeError, "failed", "module 'math' has no attribute 'cei'"),
        ("strange", UnicodeDecodeError, "failed", "invalid start byte"),
        ("many", ExceptionGroup, "failed", "many (2 sub-exceptions)"),
        ("deep", RecursionError, "failed", "maximum recursion depth exceeded"),
        ("stop", BaseException, "failed", "KeyboardInterrupt"),
    ],
)
def test_an_exception_becomes_the_verdict_that_it_would_be_here(
    learner: Learner, call: str, kind: type[BaseException], verdict: str, said: str
) -> None:
    """Its class, words and lines are what `grading/verdicts.py` goes by. None of them interrupts the judge."""
    thing = learner.wrote(ERRORS)
    with pytest.raises(kind) as caught:
        getattr(thing, call)()
    outcome = outcome_of(caught.value, learner.workspace)

    assert not isinstance(caught.value, KeyboardInterrupt)
    assert verdict == outcome.verdict
    assert said in outcome.failure.seen
    assert "lab/thing.py:" in str(outcome.failure.where)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("math.cei(1)", "There is `ceil`: is that the one?"),
        ("Point().z", "There is `x`, `y`."),
        ("{}['pid']", '`os.getpid()` is the id of this process: `{"status": "ok", "pid": os.getpid()}`.'),
        ("table['cout']", "`table` has no key 'cout'. There is `count`: is that the one?"),
        ("os.environ['MISSED']", "The environment has no MISSED: `os.environ.get('MISSED', ...)` takes a default."),
    ],
)
def test_hints_know_what_only_the_cell_has(learner: Learner, code: str, hint: str) -> None:
    """The names of an object, the keys of a dict that the line looks in."""
    thing = learner.wrote(
        "import math, os\nclass Point:\n    x = y = 0\n"
        f"def look():\n    error = table = {{'count': 1}}\n    return {code}\n"
    )
    with pytest.raises((AttributeError, KeyError)) as caught:
        thing.look()

    assert hint == outcome_of(caught.value, learner.workspace).failure.hint


@pytest.mark.parametrize(
    ("path", "seen", "where"),
    [
        ("mispelled", "lab/thing.py has no `mispelled`", "lab/thing.py:19"),
        ("Window.recrd", "lab/thing.py has no `recrd` in Window", "lab/thing.py:38"),
        ("Window.recrd()", "lab/thing.py has no `recrd` in Window", "lab/thing.py:38"),
        ("Window(9)", "calling your code does not work: Window.__init__() takes 1", "lab/thing.py:35"),
    ],
)
def test_a_name_or_a_signature_that_is_not_as_in_the_stub_is_named(
    learner: Learner, path: str, seen: str, where: str
) -> None:
    """What there is instead, and its line, as if it were here."""
    thing = learner.wrote(ERRORS)
    with pytest.raises((AttributeError, TypeError)) as caught:
        eval(f"thing.{path.replace('Window.', 'Window().') if path.endswith('()') else path}", {"thing": thing})
    failure = outcome_of(caught.value, learner.workspace).failure

    assert seen in failure.seen
    assert where in str(failure.where)


def test_definitions_have_their_lines(learner: Learner) -> None:
    """A function, a class and a method; what has none has no line."""
    thing = learner.wrote(ERRORS)
    where = learner.workspace.where_defined

    assert "lab/thing.py:7\n    def full():" == where(thing.full)
    assert "lab/thing.py:34\n    class Window:" == where(thing.Window)
    assert "lab/thing.py:38\n    def record(self):" == where(thing.Window.record)
    assert where(thing.Window()) is None


def test_what_the_learner_prints_goes_where_this_process_prints(
    learner: Learner, capfd: pytest.CaptureFixture[str]
) -> None:
    """In its order, with a last line that has no end; standard input is empty."""
    thing = learner.wrote("def say():\n    print('one')\n    print('two', end='')\n    return 2\n")

    assert 2 == thing.say()
    assert "one\ntwo" == capfd.readouterr().out


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os._exit(3)", "ended its own process with exit code 3 (os._exit?)"),
        ("os.kill(os.getpid(), 9)", "was killed (signal 9)"),
    ],
)
def test_the_end_of_the_process_is_named(learner: Learner, code: str, said: str) -> None:
    """It is no `Exception`, which a checkpoint may expect of the learner's function."""
    thing = learner.wrote(f"import os\ndef leave():\n    {code}\n")
    with pytest.raises(CellEnded) as caught:
        thing.leave()

    assert said in outcome_of(caught.value, learner.workspace).failure.seen


def test_at_import_it_is_the_same(learner: Learner) -> None:
    """The end of a process is no error of the import."""
    with pytest.raises(CellEnded):
        learner.wrote("import os\nos._exit(3)\n")
    with pytest.raises(LearnerError, match=r"importing lab/thing.py failed: ZeroDivisionError: division by zero"):
        learner.wrote("1 / 0\n")


@pytest.mark.parametrize("line", ["while True: pass", "sum(iter(int, 1))", "time.sleep(1e6)"])
def test_a_hang_has_its_line_and_an_end(learner: Learner, line: str) -> None:
    """Also one in C, which lets no other Python thread run."""
    thing = learner.wrote(f"import time\ndef hang():\n    {line}\n")
    ended: list[BaseException] = []

    def call() -> None:
        try:
            thing.hang()
        except CellEnded as error:
            ended.append(error)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    where = until(learner.cell.where_it_is, "the line of the hang")
    os.kill(learner.process.pid, 9)
    caller.join(30)

    assert f"lab/thing.py:3 in hang\n    {line}" == where
    assert ended


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_cell_is_left(learner: Learner) -> None:
    """What the learner's code started ends with it, in sessions of its own as well."""
    mark = f"import time; time.sleep(600)  # {uuid4()}"
    start = "subprocess.Popen([sys.executable, '-c', mark], start_new_session={})"
    thing = learner.wrote(
        f"import subprocess, sys\nmark = {mark!r}\ndef start():\n    {start.format(True)}\n    {start.format(False)}\n"
    )
    thing.start()

    def alive() -> list[int]:
        return [one.pid for one in psutil.process_iter(["cmdline"]) if mark in (one.info["cmdline"] or [])]

    until(lambda: len(alive()) == 2, "two processes of the learner's")
    learner.cell.end()

    until(lambda: not alive(), "the end of both")
    until(lambda: not runs(learner.process.pid), "the end of the cell")
