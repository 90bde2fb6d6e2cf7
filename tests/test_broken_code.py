"""Whatever a learner's code does: one clear line each, no hang, and the next checkpoint runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.grading.runner import TRIES
from tests.conftest import Judge
from tests.runs import WAYS, Judged, judge
from tests.waiting import upper_bound

SERVICE, MODEL = "lab/service.py", "lab/model.py"
AWAITED = """\
    with stage("model"):
        answer = await model.predict(body.features)
    return PredictResponse(prediction=answer)
"""
HEALTH = '    return {"status": "ok", "pid": os.getpid()}\n'
SOLUTIONS = ROOT / "solutions"


def spoil(workspace: Path, file: str, old: str, new: str) -> None:
    """Put `new` in the place of `old`, or before everything where `old` is empty."""
    path = workspace / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# name: file, what to replace, with what, words of the message, the learner's line, or None where nobody can know it
AT_IMPORT = {
    "syntax error": (SERVICE, "router = APIRouter()", "router = APIRouter(", "cannot read lab/service.py, line", ":"),
    "missing module": (
        SERVICE,
        "import os\n",
        "import os\nimport nonsense\n",
        "no module 'nonsense'",
        "import nonsense",
    ),
    "error at import": (SERVICE, "import os\n", "import os\n1 / 0\n", "ZeroDivisionError: division by zero", "1 / 0"),
    "sys.exit at import": (SERVICE, "import os\n", "import os, sys\nsys.exit(3)\n", "SystemExit: 3", "sys.exit(3)"),
    "os._exit at import": (
        SERVICE,
        "import os\n",
        "import os\nos._exit(3)\n",
        "its own process with exit code 3",
        None,
    ),
    "missing function": (SERVICE, "def create_app(", "def created_app(", "has no `create_app`", None),
    "wrong signature": (
        SERVICE,
        "def create_app(settings: Settings | None = None)",
        "def create_app(*, settings: Settings | None = None)",
        "takes 0",
        None,
    ),
    "no app": (SERVICE, "    return app\n", "", "returned None", None),
    "file missing": (SERVICE, "", "", "there is no lab/service.py", "lab/service.py"),
}

IN_A_HANDLER = {
    "raises": (AWAITED, "    return 1 / 0\n", "ZeroDivisionError: division by zero", "return 1 / 0"),
    "exits": (AWAITED, "    raise SystemExit(4)\n", "SystemExit: 4", "raise SystemExit(4)"),
    "never answers": (AWAITED, "    await asyncio.Event().wait()\n", "got no answer", "asyncio.Event().wait()"),
    "spins": (AWAITED, "    while True:\n        pass\n", "kept computing", "predict"),
    "sleeps for ever": (AWAITED, "    time.sleep(1e6)\n", "stood still", "time.sleep(1e6)"),
    "swallows exceptions": (
        AWAITED,
        "    while True:\n        try:\n            time.sleep(1e6)\n        except BaseException:\n            pass\n",
        "stood still",
        "time.sleep(1e6)",
    ),
    "a lock nobody opens": (
        AWAITED,
        "    lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()\n",
        "stood still",
        "lock.acquire()",
    ),
    "kills its process": (AWAITED, "    os.kill(os.getpid(), 9)\n", "was killed (signal 9)", None),
    "recursion": (AWAITED, "    return await predict(body, model)\n", "RecursionError", "await predict(body, model)"),
}


@dataclass(frozen=True)
class Broken:
    """A solution spoiled in one place, and the checkpoints to run on it."""

    changes: tuple[tuple[str, str, str], ...]
    select: str
    words: str
    line: str | None

    def run(self, folder: Path, *, shared: bool = True) -> Judged:
        """Judge it, in cells of the zygote that all runs share, or of one of its own."""
        workspace = shutil.copytree(SOLUTIONS, folder / "workspace", ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in self.changes:
            if old:
                spoil(workspace, file, old, new)
            else:
                (workspace / file).unlink()
        return judge(folder, workspace, "checks/test_ex1.py", "-k", self.select, shared=shared)


FOR_EVERY_DAY = {*IN_A_HANDLER} - {"spins", "swallows exceptions", "a lock nobody opens"}
"""Without what stands still as another one does; and what computes until it is stopped costs a core for seconds."""

IMPORTS = ("lab/service.py", "import os\n", "import asyncio, os, threading, time\n")
AT_IMPORT_CASES = {
    name: Broken(((file, old, new),), "health or burst", words, line)
    for name, (file, old, new, words, line) in AT_IMPORT.items()
}
IN_A_HANDLER_CASES = {
    name: Broken(((SERVICE, old, new), IMPORTS), "contract or burst", words, line)
    for name, (old, new, words, line) in IN_A_HANDLER.items()
}
IN_C = ["__import__('ctypes').PyDLL(None).sleep(1000)", pytest.param("sum(iter(int, 1))", marks=pytest.mark.exhaustive)]
"""C functions that never give the interpreter's lock away: the second one computes, which costs a core."""
ENDLESS = ["__import__('time').sleep(1)", pytest.param("pass", marks=pytest.mark.exhaustive)]
"""What an endless import does again and again; the second one computes."""


@pytest.mark.parametrize("case", AT_IMPORT_CASES.values(), ids=AT_IMPORT_CASES)
def test_code_that_cannot_be_loaded_says_why(case: Broken, tmp_path: Path) -> None:
    """A file that cannot be used fails its checkpoints with one sentence and a line, and spares those without it."""
    run = case.run(tmp_path)
    assert run.exit_code == 1
    run.assert_verdicts({"1.1": "failed", "1.8": "passed"})
    assert case.words in run.checkpoints["1.1"]["message"]
    assert case.line is None or case.line in run.checkpoints["1.1"]["where"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if name in FOR_EVERY_DAY else [pytest.mark.exhaustive], id=name)
        for name, case in IN_A_HANDLER_CASES.items()
    ],
)
def test_a_handler_that_breaks_fails_its_checkpoint_alone(case: Broken, tmp_path: Path) -> None:
    """A broken handler is one failed checkpoint with the learner's line; the following ones run."""
    run = case.run(tmp_path)
    run.assert_verdicts({"1.2": "failed", "1.8": "passed"})
    assert case.words in run.checkpoints["1.2"]["message"]
    assert case.line is None or case.line in run.checkpoints["1.2"]["where"]
    assert len(run.card.splitlines()) < 50


@pytest.mark.parametrize("again", ENDLESS)
@pytest.mark.cost(8)
def test_an_endless_import_is_waited_for_once(again: str, tmp_path: Path) -> None:
    """A module that never finishes importing is named with its line, and the next checkpoints know it already."""
    imports = tmp_path / "imports"
    endless = f"import os\nopen({str(imports)!r}, 'a').write('once ')\nwhile True: {again}\n"
    words = "did not finish importing lab.service within"
    run = Broken(((SERVICE, "import os\n", endless),), "h and not 1.9", words, "lab/service.py:5").run(tmp_path)
    failed = [c for c in run.checkpoints.values() if c["verdict"] == "failed"]

    run.assert_verdicts(dict.fromkeys(run.verdicts, ("failed", "passed")))
    assert len(failed) > 3
    assert all(words in c["message"] for c in failed)
    assert all("lab/service.py:5" in c["where"] for c in failed)
    assert all(c["same_as"] == failed[0]["id"] for c in failed[1:])
    assert imports.read_text().count("once") <= TRIES  # of the first one: more where the machine is too busy to tell


@pytest.mark.parametrize("in_c", IN_C)
@pytest.mark.cost(8)
def test_code_that_lets_nothing_else_run_ends_at_its_deadline(in_c: str, tmp_path: Path) -> None:
    """A function in C holds every Python thread: it is ended from outside, with the line it was in."""
    broken = Broken(((SERVICE, "import os\n", f"import os\n{in_c}\n"),), "health or burst", "", "lab/service.py:4")
    run = broken.run(tmp_path, shared=False)
    run.assert_verdicts({"1.1": "failed", "1.8": "passed"})
    assert "lab/service.py:4" in run.checkpoints["1.1"]["where"]


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_flood_of_output_is_kept_short(way: str, solution: Path, judge: Judge) -> None:
    """Megabytes on stdout neither hold a checkpoint up nor end up in its results."""
    spoil(solution, SERVICE, HEALTH, '    print("x" * 50_000_000, flush=True)\n    return {"status": "drowned"}\n')

    run = judge(solution, "checks/test_ex1.py", f"--isolation={way}", "-k", "1.1", shared=False)

    run.assert_verdicts({"1.1": "failed"})
    assert len(run.checkpoints["1.1"]["output"]) <= 100_000
    assert len(run.card) < 10_000


def test_what_a_service_logs_does_not_hide_what_was_printed(solution: Path, judge: Judge) -> None:
    """A learner's own line is on the card; the log line of each request is not."""
    spoil(solution, SERVICE, AWAITED, '    print("look here")\n    return PredictResponse(prediction=0.0)\n')

    run = judge(solution, "checks/test_ex1.py", "-k", "1.2")

    run.assert_verdicts({"1.2": "failed"})
    assert run.checkpoints["1.2"]["output"] == "look here"
    assert "look here" in run.card


def test_where_the_labs_model_stands_in_the_card_says_so(solution: Path, judge: Judge) -> None:
    """A print in the learner's own model cannot show there: the card explains why."""
    spoil(solution, MODEL, "        await asyncio.sleep", '        print("in my model")\n        await asyncio.sleep')
    spoil(solution, SERVICE, "answer = await model.predict(", "answer = model.predict_blocking(")

    run = judge(solution, "checks/test_ex1.py", "-k", "1.4")

    assert run.verdicts == {"1.4": "failed"}
    assert "stands in for lab/model.py: what that one prints does not show" in run.checkpoints["1.4"]["output"]
    assert "stands in for" in run.card


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_processes_left_behind_are_ended(way: str, session: bool, solution: Path, judge: Judge) -> None:
    """What a learner's code starts does not outlive its checkpoint, and does not hold it up."""
    mark = f"import time; time.sleep(600)  # {uuid4()}"
    left = f'subprocess.Popen([sys.executable, "-c", {mark!r}], start_new_session={session})'
    spoil(solution, SERVICE, HEALTH, f"    import subprocess, sys\n    {left}\n{HEALTH}")

    run = judge(solution, "checks/test_ex1.py", f"--isolation={way}", "-k", "1.1", shared=False)
    lives = [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]

    run.assert_verdicts({"1.1": "passed"})
    assert not lives


def test_a_server_that_dies_at_start_shows_its_last_words(solution: Path, judge: Judge) -> None:
    """An app that works in process and not under uvicorn fails with what the server said."""
    spoil(
        solution,
        SERVICE,
        "    settings = settings or",
        '    import sys; "uvicorn" in sys.argv[0] and sys.exit("no")\n    settings = settings or',
    )

    run = judge(solution, "checks/test_ex1.py", "-k", "1.9")

    run.assert_verdicts({"1.9": "failed"})
    assert "server" in run.checkpoints["1.9"]["message"]


@pytest.mark.exhaustive
@pytest.mark.cost(40)
def test_the_seconds_of_the_checkpoints_are_those_of_the_run(solution: Path, judge: Judge) -> None:
    """Nobody waits for what no checkpoint counts, however long a service takes that never listens."""
    (solution / "lab" / "serve.py").write_text("import time\n\ntime.sleep(1000)\n")
    run = judge(solution, "checks/test_ex5.py")
    counted = sum(checkpoint["seconds"] for checkpoint in run.checkpoints.values())

    run.assert_verdicts({"5.1": "passed", "5.2": "failed", "5.3": "locked", "5.4": "passed", "5.5": "locked"})
    with upper_bound():
        assert run.results["seconds"] <= 1.2 * counted, run.card
