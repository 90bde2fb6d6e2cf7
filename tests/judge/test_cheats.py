"""Code that sets out to deceive its judge: what it writes in place of an answer, and what it changes in its cell."""

from __future__ import annotations

import ast
import builtins
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT, plugin
from checks.harness.cell.wire import Broken
from checks.harness.errors import CellEnded
from checks.harness.judge.cell import FORGED
from checks.harness.judge.raised import raised
from checks.harness.options import TAKE_THEIR_CODE
from tests.conftest import Judge
from tests.exercises import EXERCISES, Checkpoint
from tests.judge.conftest import Learner
from tests.waiting import busy

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
    plain |= {"breakpoint": False, "frames": [], "attributes": {}, "called": None, "cause": [], "inner": []}
    plain |= {"key": None, "ours": None, "hint": "", "not_awaited": None}
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
        told(ours={"kind": "Inconclusive", "seen": "", "wanted": "", "hint": "", "where": None}),
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


TOOLS = f"""
{WRITE}
import asyncio, builtins, math, sys, types
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

def classes(name):
    return [one for one in object.__subclasses__() if one.__name__ == name]

def instead(path, handler):
    router.routes[:] = [route for route in router.routes if route.path != path]
    router.post(path, response_model=PredictResponse)(handler)

def claim(**said):
    for gate in classes("Gate"):
        def enter(self, *args, was=gate.enter, **named):
            tell, self._tell = self._tell, lambda event, **more: tell(event, **(more | said))
            try:
                return was(self, *args, **named)
            finally:
                self._tell = tell
        gate.enter = enter

def never_moves():
    for watch in classes("Watch"):
        watch.until = lambda *_, **__: types.SimpleNamespace(kind="blocked", busy=False)
"""
SERVICES = {
    "calls that no request made": (
        "/predict",
        ["1.4"],
        """
forged = dict(event="enter", probe=0, wrong=None, blocking=False, on_loop=True, thread=1, caller=["a.py", 1, "f"])

async def mine(body: PredictRequest, model: Model):
    for number in range(1000, 1059):
        write(frame(forged | dict(call=number, features=[float(number)])))
    return {"prediction": model.predict_blocking(body.features)}
""",
    ),
    "sixty threads that say they are the loop's": (
        "/predict",
        ["1.4"],
        """
claim(blocking=False, on_loop=True, thread=1)
threads = ThreadPoolExecutor(64)

async def mine(body: PredictRequest, model: Model):
    loop = asyncio.get_running_loop()
    return {"prediction": await loop.run_in_executor(threads, model.predict_blocking, body.features)}
""",
    ),
    "forty at a time that say they are threads": (
        "/predict/threaded",
        ["1.5"],
        """
claim(blocking=True, on_loop=False)
forty = asyncio.Semaphore(40)
for app in classes("InProcess"):
    app.pool_threads_in_use = lambda self: 40

async def mine(body: PredictRequest, model: Model):
    async with forty:
        return {"prediction": await model.predict(body.features)}
""",
    ),
    "a standstill that is none, with late calls": (
        "/predict/blocking",
        ["1.6"],
        """
claim(blocking=True, on_loop=True)
never_moves()
first = []

async def mine(body: PredictRequest, model: Model):
    first.append(1)
    if len(first) > 1:
        await asyncio.sleep(0.6)
    return {"prediction": await model.predict(body.features)}
""",
    ),
    "a model of its own, behind patched builtins": (
        "/predict",
        ["1.2", "1.4"],
        """
never_moves()
math.isclose = lambda *_, **__: True
builtins.abs = builtins.round = lambda *_: 0
for name, module in [*sys.modules.items()]:
    if name.startswith("checks"):
        vars(module).clear()

async def mine(body: PredictRequest, model: Model):
    return {"prediction": fmean(body.features)}
""",
    ),
}


@pytest.mark.parametrize(("path", "failing", "text"), SERVICES.values(), ids=SERVICES)
def test_a_service_that_cheats_gains_nothing(
    path: str, failing: list[str], text: str, solution: Path, judge: Judge
) -> None:
    """What the judge has not counted, or cannot tie to a request of its own, is none of its calls."""
    service = solution / "lab" / "service.py"
    service.write_text(f"{service.read_text()}\n{TOOLS}\n{text}\ninstead({path!r}, mine)\n")
    run = judge(solution, "checks/test_ex1.py", "-k", " or ".join(failing))

    assert {"failed", "locked"} >= {run.verdicts[name] for name in failing}
    assert "failed" in run.verdicts.values()
    assert {0} == {run.checkpoints[name]["points"] for name in failing}


ELSEWHERE = {
    "waits that are only claimed": (
        "lab/model.py",
        "1.3",
        """
async def at_once(self, features):
    return fmean(features)

for inside in classes("Inside"):
    def explained(self, message, was=inside._do):
        if message["do"] != "explain":
            return was(self, message)
        seconds = self._things[message["of"]].__self__.seconds
        return {"value": [[seconds for _ in message["calls"]], "", False, False, None]}
    inside._do = explained
SimulatedModel.predict = at_once
""",
    ),
    "a busy loop behind a clock that stands": (
        "lab/model.py",
        "1.3",
        """
import time

def computing(self, features, clock=time.perf_counter):
    end = clock() + self.seconds
    while clock() < end:
        pass
    return fmean(features)

time.thread_time = time.process_time = lambda: 0.0
SimulatedModel.predict_blocking = computing
""",
    ),
    "a limit that is no pool": (
        "lab/service.py",
        "4.3",
        """
claim(blocking=True, on_loop=False)
limits = {}

async def mine(body: PredictRequest, model: Model, request: Request):
    size = request.app.state.settings.thread_pool_size
    async with limits.setdefault(id(request.app), asyncio.Semaphore(size)):
        return {"prediction": await model.predict(body.features)}

instead("/predict/threaded", mine)
""",
    ),
    "stages that nobody went through": (
        "lab/timing.py",
        "2.12",
        """
for probe in classes("Probe"):
    async def at_once(self, features):
        return 0.0

    probe.predict, probe.predict_blocking = at_once, lambda self, features: 0.0
""",
    ),
    "a request that is over before the clock is set": (
        "lab/timing.py",
        "2.5",
        """
for probe in classes("Probe"):
    async def at_once(self, features):
        return 0.0

    probe.predict = at_once
""",
    ),
    "tokens that were guessed": (
        "lab/streaming.py",
        "7.4",
        """
import secrets

for decoder in classes("HeldDecoder"):
    async def guessed(self, prompt, max_tokens):
        stream = next(self._numbers)
        self._port.begins(stream, prompt, max_tokens, held=True, caller=[])
        for _ in range(max_tokens):
            self._port.asks(stream, lambda said: None)
            yield secrets.token_hex(3)
    decoder.generate = guessed
""",
    ),
    "slots that are only said to be free": (
        "lab/streaming.py",
        "7.5",
        """
for decoder in classes("HeldDecoder"):
    def said(self):
        self._port.gives_back(held=True)
    decoder.release = said
""",
    ),
    "answers that the app has not given": (
        "lab/admission.py",
        "4.5",
        """
for visitors in classes("Visitors"):
    def told(self, visitor, exchange, task, was=visitors._ended):
        exchange.status, exchange.chunks = 200, [(0.0, b"firstlast")]
        return was(self, visitor, exchange, task)
    visitors._ended = told
""",
    ),
}


@pytest.mark.parametrize(("file", "checkpoint", "text"), ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.cost(8)
def test_what_a_cell_claims_passes_nothing(file: str, checkpoint: str, text: str, solution: Path, judge: Judge) -> None:
    """The clock, the threads and the words that end an answer are the judge's.

    Once more where the machine is so busy that what is claimed may have been true.
    """
    code = solution / file
    code.write_text(f"{code.read_text()}\n{TOOLS}\n{text}")
    run = judge(solution, f"checks/test_ex{checkpoint[0]}.py", "-k", checkpoint)
    if busy() and run.verdicts[checkpoint] == "passed":
        run = judge(solution, f"checks/test_ex{checkpoint[0]}.py", "-k", checkpoint)

    run.assert_verdicts({checkpoint: "failed"})


CELLS = {one.id: one for exercise in EXERCISES.values() for one in exercise.checkpoints if one.in_cell}


def test_what_takes_the_learners_code_takes_it_from_a_cell() -> None:
    """Each fixture that loads or starts it asks for the cell, and the checkpoints that take one are these."""
    tree = ast.parse((ROOT / "checks" / "harness" / "fixtures.py").read_text())
    takes = {one.name: {each.arg for each in one.args.args} for one in tree.body if isinstance(one, ast.FunctionDef)}
    ours = [one.id for number in (1, 2, 4, 6, 7) for one in EXERCISES[number].checkpoints]

    assert {name for name, of in takes.items() if name in plugin.__all__ and {"cell", "lab"} & of} == TAKE_THEIR_CODE
    assert set(CELLS) == {*ours, "3.6", "3.7", "3.8", "3.9", "5.4"}


HELPERS = ["ex1/*.py", "ex2/*.py", "ex4/*.py", "ex6/*.py", "ex7/*.py"]


@pytest.mark.parametrize("name", HELPERS)
def test_helpers_of_checkpoints_in_a_cell_measure_nothing_of_their_own_process(name: str) -> None:
    """Memory and CPU time here are the judge's, and its sleeps are not the learner's: such a check would be void."""
    files = [*(ROOT / "checks" / "support").glob(name)]

    assert files
    for file in files:
        for word in ("tracemalloc", "process_time", "thread_time", "time.sleep =", "SLEEPS", "stacks("):
            assert word not in file.read_text(), file


@pytest.mark.parametrize("one", CELLS.values(), ids=CELLS)
def test_checkpoints_in_a_cell_measure_nothing_of_their_own_process(one: Checkpoint) -> None:
    """The same of the checkpoint itself."""
    source = (ROOT / EXERCISES[int(one.id.partition(".")[0])].path).read_text()
    function = source.partition(f"def {one.function}(")[2].partition("@pytest.mark.checkpoint")[0]

    assert function
    for name in ("tracemalloc", "process_time", "thread_time", "time.sleep(", "SLEEPS", "app.app", "stacks("):
        assert name not in function
