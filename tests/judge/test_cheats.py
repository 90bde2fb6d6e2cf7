"""Code that sets out to deceive its judge: what it writes in place of an answer, and what it changes in its cell."""

from __future__ import annotations

import builtins
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from checks.harness.cell.wire import Broken
from checks.harness.errors import CellEnded
from checks.harness.judge.cell import FORGED
from checks.harness.judge.raised import raised
from tests.conftest import Judge
from tests.exercises import EXERCISES
from tests.judge.conftest import Learner

WRITE = '''
import json, os

def write(data):
    """Into every pipe of this process but its output, in the place of an answer."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                view = memoryview(data)
                while view:
                    view = view[os.write(int(name), view):]
        except OSError:
            pass

def frame(message):
    data = message if type(message) is bytes else json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data
'''

RIGHT = {"values": [1.0], "after": [{}]}
HOSTILE = {
    "2 GB announced": "(2**31).to_bytes(4, 'big') + b'{'",
    "4 million lists in one another": "frame(b'[' * 4_000_000 + b']' * 4_000_000)",
    "NaN without a tag": """frame(b'{"to": 3, "values": [NaN], "after": [{}]}')""",
    "no JSON": "frame(b'passed')",
    "no object": "frame([1])",
    "an answer to no question": f"frame({ {'to': 99, **RIGHT} })",
    "an answer to a truth": f"frame({ {'to': True, **RIGHT} })",
    "no answer in it": "frame({'to': 3})",
    "an unknown tag": "frame({'to': 3, 'values': [{'$': 'passed', 'v': 1}], 'after': [{}]})",
    "a record that there is not": "frame({'to': 3, 'values': [{'$': 'r', 'v': ['Failure', {}]}], 'after': [{}]})",
    "a record with other fields": "frame({'to': 3, 'values': [{'$': 'r', 'v': ['Step', {'x': 1}]}], 'after': [{}]})",
    "a handle of another kind": "frame({'to': 3, 'values': [{'$': 'h', 'v': {'number': '1'}}], 'after': [{}]})",
    "an argument that there is not": "frame({'to': 3, 'values': [1.0], 'after': [{'7': []}]})",
    "an argument of another type": "frame({'to': 3, 'values': [1.0], 'after': [{'0': 3}]})",
    "an answer too many": f"frame({ {'to': 3, 'values': [1.0, 1.0], 'after': [{}, {}]} })",
    "an answer too few": "frame({'to': 3, 'values': [], 'after': []})",
    "an answer and an exception": f"frame({ {'to': 3, 'raised': {}, **RIGHT} })",
    "half an exception": "frame({'to': 3, 'raised': {'type': 'Passed'}})",
    "300 MB of answers": "b''.join([frame({'to': 3, 'values': ['x' * 1_000_000], 'after': [{}]})] * 30) * 10",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_answer_ends_the_cell(learner: Learner, hostile: str) -> None:
    """Whatever it is: the checkpoint fails with a sentence, and the judge takes no memory for it."""
    thing = learner.wrote(f"{WRITE}\ndef answer(values):\n    write({hostile})\n    return 1.0\n")

    def three_times() -> None:  # what was forged in a right form is found out at the next answer
        for _ in range(3):
            thing.answer([1.0])

    tracemalloc.start()
    with pytest.raises(CellEnded, match=FORGED):
        three_times()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 80_000_000
    with pytest.raises(CellEnded):
        thing.answer([1.0])


def test_a_forged_answer_is_an_answer_and_nothing_more(learner: Learner) -> None:
    """To guess what is asked next, and what the answer is, is to do the work. The one too many fails."""
    forged = "frame({'to': 3, 'values': [4.0], 'after': [{}]})"
    thing = learner.wrote(f"{WRITE}\ndef double(value):\n    write({forged})\n    return 0.0\n")

    assert 4.0 == thing.double(2.0)
    with pytest.raises(CellEnded, match=FORGED):
        thing.double(3.0)


def test_the_judge_is_nowhere_in_a_cell(learner: Learner) -> None:
    """No module of the lab's own is loaded there, none can be imported by its name, and no frame belongs to a check."""
    thing = learner.wrote(
        "import sys\n"
        "def judges():\n    return [name for name in sys.modules if name.partition('.')[0] in ('checks', 'pytest')]\n"
        "def frames():\n    frame, found = sys._getframe(), []\n"
        "    while frame:\n        found.append(frame.f_code.co_filename)\n        frame = frame.f_back\n"
        "    return found\n"
        "def look(name):\n    __import__(name)\n"
    )

    assert [] == thing.judges()
    assert not [path for path in thing.frames() if "checks/harness" in path and "/cell/" not in path]
    for name in ("checks.harness.grading.verdicts", "solutions", "tests"):
        with pytest.raises(ModuleNotFoundError):
            thing.look(name)


def test_what_is_patched_in_a_cell_is_patched_nowhere_else(learner: Learner) -> None:
    """Builtins, the modules that a check compares with, and `sys.modules` itself."""
    thing = learner.wrote(
        "import builtins, json, math, sys, types\n"
        "class Yes:\n    __eq__ = __ne__ = __lt__ = lambda *_: True\n    __hash__ = None\n"
        "def patch():\n"
        "    math.isclose = lambda *_, **__: True\n    builtins.abs = lambda _: 0\n"
        "    json.loads = lambda *_, **__: {'verdict': 'passed'}\n"
        "    sys.modules['checks'] = sys.modules['lab.records'] = types.ModuleType('checks')\n"
        "    return Yes()\n"
    )
    before = (json.loads, builtins.abs, sys.modules["checks"])
    got = thing.patch()

    assert before == (json.loads, builtins.abs, sys.modules["checks"])
    assert got != 1
    assert not got == 1  # noqa: SIM201  # `!=` and `==` could each have been overridden


def told(**more: Any) -> dict[str, Any]:
    """What a cell tells of a ValueError."""
    plain: dict[str, Any] = {"type": "ValueError", "bases": ["ValueError"], "text": "no", "said": "ValueError('no')"}
    plain |= {"breakpoint": False, "frames": [], "attributes": {}, "names": [], "called": None, "cause": []}
    plain |= {"inner": [], "fields": [], "of_module": False, "key": None, "held": {}}
    return plain | more


@pytest.mark.parametrize(
    "forged",
    [
        None,
        {},
        told(type=1),
        told(bases="ValueError"),
        told(frames=[["a.py", "x", "f", "m"]]),
        told(cause=[{}]),
        told(passed=True),
        told(bases=["ExceptionGroup"]),
        told(bases=["ExceptionGroup"], inner=[told(bases=[])]),
        told(type="\0"),
    ],
    ids=str,
)
def test_what_tells_of_no_exception_is_refused(forged: object, tmp_path: Path) -> None:
    """Only what has the whole form, and no more, is raised."""
    assert isinstance(raised(told(), tmp_path), ValueError)
    with pytest.raises(Broken):
        raised(forged, tmp_path)


@pytest.mark.parametrize("bases", [["Inconclusive"], ["KeyboardInterrupt"], ["GeneratorExit"], ["int"], ["exit"], []])
def test_no_exception_of_a_cell_is_one_of_the_labs(bases: list[str], tmp_path: Path) -> None:
    """A name of the lab's verdicts, of an interruption or of no exception at all is only a name."""
    error = raised(told(type="Inconclusive", bases=bases), tmp_path)

    assert BaseException is type(error).__mro__[-2]
    assert not isinstance(error, (Exception, KeyboardInterrupt, GeneratorExit))


def test_frames_point_at_the_learners_files_alone(tmp_path: Path) -> None:
    """A report shows lines of files that a traceback names: none that the learner only claims to have run."""
    secret, theirs = tmp_path / "secret", tmp_path / "tree" / "lab" / "thing.py"
    frames = [
        [str(secret), 1, "f", "m"],
        [str(theirs), 3, "g", "lab.thing"],
        [str(theirs), -1, "h", "x"],
        ["\0", 1, "", ""],
    ]
    error = raised(told(frames=frames), tmp_path / "tree")
    trace, found = error.__traceback__, []
    while trace:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno, trace.tb_frame.f_code.co_name))
        trace = trace.tb_next

    assert [(f"<{secret}>", 1, "f"), (str(theirs), 3, "g")] == found


CHEATS = {
    "answers that are equal to everything": (
        "class Yes(float):\n    __eq__ = __ne__ = lambda *_: True\n    __hash__ = None\n"
        "def burst_seconds(*_, **__):\n    return Yes()\n"
    ),
    "the judge's modules": (
        "import sys\n"
        "for name, module in [*sys.modules.items()]:\n"
        "    if name.startswith('checks'):\n        vars(module).clear()\n"
        "import math\nmath.isclose = lambda *_, **__: True\n"
        "def burst_seconds(*_, **__):\n    return 0.0\n"
    ),
    "a verdict for an answer": (
        f"{WRITE}\n"
        "passed = {'checkpoint': {'verdict': 'passed', 'points': 2}, 'outcome': {'verdict': 'passed'}, 'reports': []}\n"
        "write(frame(passed))\nwrite(len(json.dumps(passed)).to_bytes(8, 'big') + json.dumps(passed).encode())\n"
        "def burst_seconds(*_, **__):\n    return 0.0\n"
    ),
    "an exit code": "import os\nos._exit(0)\n",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_a_cheat_gains_nothing(cheat: str, solution: Path, judge: Judge) -> None:
    """Whatever it does in its own process, the checkpoint fails."""
    (solution / "lab" / "predictions.py").write_text(cheat)
    run = judge(solution, "checks/test_ex1.py", "-k", "1.8")

    run.assert_verdicts({"1.8": "failed"})
    assert 1 == run.exit_code


def test_checkpoints_in_a_cell_run_nothing_of_the_learners_here() -> None:
    """They take no fixture that loads or starts the learner's code in another way."""
    cells = {one.id: one for exercise in EXERCISES.values() for one in exercise.checkpoints if one.in_cell}
    allowed = {"lab", "workspace", "rng", "show", "serve_target"}

    assert {"1.8", "2.1", "2.2", "2.10", "3.6", "3.7", "3.8", "4.1", "4.8"} == set(cells)
    assert {name: one.fixtures - allowed for name, one in cells.items() if one.fixtures - allowed} == {}
