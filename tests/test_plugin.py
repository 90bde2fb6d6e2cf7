"""The plugin, by running pytest on small checkpoint files and reading what it says and leaves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from checks.harness.source_lines import GIVEN
from tests.runs import WAYS, run_pytest

pytest_plugins = ["pytester"]

Lab = Callable[..., pytest.RunResult]

VERDICTS = '''
"""Exercise 9 - every verdict there is.

What it is about.

PYTEST_DONT_REWRITE
"""

import pytest
from checks.harness.errors import Failure, Inconclusive


def checkpoint(number, **more):
    return pytest.mark.checkpoint(f"9.{number}", points=2, hints=("first hint", "second hint"), **more)


@checkpoint(1)
def test_passes(show):
    """A pass.

    Why it matters.
    """
    show.number("the deciding number", 7)


@checkpoint(2)
def test_fails(lab):
    """A failure."""
    assert lab.thing.two() == 3, Failure("two() is 2", wanted="3")


@checkpoint(3)
def test_stub(lab):
    """A stub."""
    lab.thing.stub()


@checkpoint(4, needs=["9.2"])
def test_locked():
    """A locked one."""


@checkpoint(5)
def test_unsure():
    """An inconclusive one."""
    with open("tries", "a") as tries:
        tries.write("x")
    raise Inconclusive("too busy")


@checkpoint(6)
def test_own_fault():
    """A fault of the lab."""
    {}["nothing"]


@checkpoint(7, needs=["9.1"])
def test_unlocked(seed, rng, lab):
    """One whose need has passed."""
    print("random", rng.random())
    assert lab.thing.two() == 2, "no"


@checkpoint(10)
def test_two_digits():
    """One whose number begins like another's."""
'''

LOAD_TESTS = '''
import pytest
from checks.harness import fixtures
from checks.harness.errors import Inconclusive


class Counted:
    """In the place of runs of Locust: writes one file, and counts how often."""

    def __init__(self, workspace, folder, ahead):
        self.run, self.tries = folder / "x.run", folder / "tries"

    def __call__(self):
        assert not self.run.exists(), "an inconclusive run was kept"
        self.run.write_text("run")
        self.tries.write_text(self.tries.read_text() + "i" if self.tries.exists() else "i")
        if len(self.tries.read_text()) < 3:
            raise Inconclusive("busy")

    def finish(self, *, passed):
        pass

    def forget(self):
        self.run.unlink()


fixtures.LoadTests = Counted


@pytest.mark.checkpoint("9.1", points=1)
def test_unsure(load_test):
    """One that is inconclusive twice."""
    load_test()


@pytest.mark.checkpoint("9.2", points=1)
def test_shared(shared):
    """One that finds what the other ran."""
    assert (shared / "x.run").exists(), "nothing was kept"
'''

THING = """
def two():
    return 2


def stub():
    raise NotImplementedError("9.3: stub")
"""


@pytest.fixture
def lab(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Run pytest in a small lab of its own: one checkpoint file, one learner's module."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "pyproject.toml", pytester.path)
    shutil.copy(ROOT / "conftest.py", pytester.path)
    for folder in ("lab", "checks"):
        pytester.mkdir(folder)
    for given in GIVEN:
        shutil.copy(ROOT / given, pytester.path / given)
    (pytester.path / "lab" / "thing.py").write_text(THING)
    (pytester.path / "checks" / "test_ex9.py").write_text(VERDICTS)

    def run(*arguments: str) -> pytest.RunResult:
        code, printed = run_pytest(pytester.path, arguments, pytester.path / "output")
        return pytest.RunResult(code, printed.splitlines(), [], 0)

    return run


def results(path: Path) -> dict[str, Any]:
    """The results that a run left in this folder."""
    told: dict[str, Any] = json.loads((path / ".lab" / "last-run.json").read_text())
    return told


def verdicts(path: Path) -> dict[str, str]:
    """The verdicts by checkpoint."""
    return {c["id"]: c["verdict"] for exercise in results(path)["exercises"] for c in exercise["checkpoints"]}


@pytest.mark.parametrize("way", [*WAYS, "none"])
def test_all_six_verdicts(lab: Lab, pytester: pytest.Pytester, way: str) -> None:
    """Each verdict reaches the results, whichever way the checkpoints are kept apart; only a pass earns points."""
    ran = lab(f"--isolation={way}")

    told = results(pytester.path)["exercises"][0]
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts(pytester.path) == {
        "9.1": "passed",
        "9.2": "failed",
        "9.3": "not_started",
        "9.4": "locked",
        "9.5": "inconclusive",
        "9.6": "lab_error",
        "9.7": "passed",
        "9.10": "passed",
    }
    assert (told["title"], told["about"]) == ("every verdict there is", "What it is about.")
    assert (told["points"], told["max_points"]) == (6, 16)
    last = " ".join(ran.outlines[-2:])  # where the card is narrow, it takes two lines
    assert "3 passed, 1 failed, 1 not started, 1 locked, 1 inconclusive, 1 lab error in " in last


def test_what_a_failure_says(lab: Lab, pytester: pytest.Pytester) -> None:
    """Seen, wanted, where, why, hints and evidence are in the results as well as on the card."""
    ran = lab("-k", "passes or fails or stub")

    first, failed, stub = results(pytester.path)["exercises"][0]["checkpoints"]
    assert first["why"] == "Why it matters."
    assert first["evidence"] == [{"kind": "number", "text": "the deciding number", "value": 7}]
    assert (failed["seen"], failed["wanted"]) == ("two() is 2", "3")
    assert failed["hints"] == ["first hint", "second hint"]
    assert "lab/thing.py:7 in stub" in stub["where"]
    ran.stdout.fnmatch_lines(
        ["*9.1*A pass*2/2*the deciding number*", "*9.2*failed*", "*seen*two() is 2*", "*wanted*3*"]
    )
    ran.stdout.fnmatch_lines(["*again*-k 9.2*"])
    ran.stdout.no_fnmatch_line("*second hint*")


def test_all_hints_on_request(lab: Lab) -> None:
    """`--hints` shows every hint."""
    ran = lab("-k", "9.2", "--hints")

    ran.stdout.fnmatch_lines(["*first hint*", "*second hint*"])


def test_an_inconclusive_checkpoint_is_tried_again(lab: Lab, pytester: pytest.Pytester) -> None:
    """A machine that was too busy gets three tries, and then no verdict that could be mistaken for one."""
    ran = lab("-k", "9.5")

    assert (pytester.path / "tries").read_text() == "xxx"
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    assert re.fullmatch(r"1 inconclusive, 7 deselected in [\d.]+s.*", ran.outlines[-1])


def test_a_number_selects_one_checkpoint(lab: Lab, pytester: pytest.Pytester) -> None:
    """`-k 9.1` is that checkpoint, and not 9.10 as well."""
    ran = lab("-k", "9.1")

    assert verdicts(pytester.path) == {"9.1": "passed"}
    assert ran.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("9.1 or 9.7", ["9.1", "9.7"]),
        ("not 9.1", ["9.2", "9.3", "9.4", "9.5", "9.6", "9.7", "9.10"]),
        ("9.10", ["9.10"]),
        ("(9.1 or 9.10) and not passes", ["9.10"]),
        ("9.2 or digits", ["9.2", "9.10"]),
    ],
)
def test_numbers_in_an_expression_are_exactly_these_checkpoints(
    lab: Lab, pytester: pytest.Pytester, expression: str, selected: list[str]
) -> None:
    """Whatever stands around them; other words mean parts of names, as in pytest."""
    lab("-k", expression, "--isolation=none")

    assert selected == list(verdicts(pytester.path))


def test_a_number_that_no_checkpoint_has_is_an_error(lab: Lab) -> None:
    """A typing error must not select nothing, or everything."""
    ran = lab("-k", "not 9.77")

    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stdout.fnmatch_lines(["*there is no checkpoint 9.77 among 9.1, 9.2*"])


def test_what_is_needed_is_asked_for_only_when_it_was_selected(lab: Lab, pytester: pytest.Pytester) -> None:
    """A locked checkpoint can be run alone."""
    lab("-k", "9.4")

    assert verdicts(pytester.path) == {"9.4": "passed"}


def test_to_list_the_checkpoints_is_no_run(lab: Lab, pytester: pytest.Pytester) -> None:
    """`--collect-only` succeeds, and leaves the results of the last run alone."""
    lab("-k", "9.1")
    ran = lab("--collect-only")

    assert ran.ret == pytest.ExitCode.OK
    assert verdicts(pytester.path) == {"9.1": "passed"}


def test_a_breakpoint_names_the_command_that_stops_there(lab: Lab, pytester: pytest.Pytester) -> None:
    """A checkpoint's own process has no keyboard."""
    (pytester.path / "lab" / "thing.py").write_text("def two():\n    breakpoint()\n    return 2\n")
    lab("-k", "9.2")

    (failed,) = results(pytester.path)["exercises"][0]["checkpoints"]
    assert failed["seen"].startswith("breakpoint() was called")
    assert failed["hint"] == "`uv run pytest checks/test_ex9.py -k 9.2 --pdb` stops at it."
    assert "lab/thing.py:2 in two" in failed["where"]


def test_with_pdb_the_learners_own_file_runs_in_pytests_own_process(
    pytester: pytest.Pytester, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a debugger has the keyboard, and an editor's breakpoints are on the lines that run."""
    (pytester.path / "lab" / "thing.py").write_text("def two():\n    breakpoint()\n    return 3\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "pytest", "-k", "9.2", "--pdb"]
    typed = "p 6 * 7\np __file__\nc\n"
    ran = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=False)

    assert "(Pdb) 42" in ran.stdout
    assert f"(Pdb) '{pytester.path}/lab/thing.py'" in ran.stdout
    assert ran.returncode == pytest.ExitCode.OK


def test_a_seed_repeats_a_run(lab: Lab, pytester: pytest.Pytester) -> None:
    """The same seed gives a checkpoint the same random inputs, whichever others run."""
    printed: list[str] = []
    for arguments in (["-k", "9.7"], [], ["-k", "9.7"]):
        seed = [f"--seed={results(pytester.path)['seed']}"] if printed else []
        lab(*arguments, *seed)
        outputs = {c["id"]: c["output"] for c in results(pytester.path)["exercises"][0]["checkpoints"]}
        printed.append(outputs["9.7"])

    assert printed[0].startswith("random 0.")
    assert printed[0] == printed[1] == printed[2]


def test_junit_carries_the_points(lab: Lab, pytester: pytest.Pytester) -> None:
    """`--junitxml` names checkpoint, points and verdict as properties."""
    lab("--junitxml=out.xml")

    cases = ET.parse(pytester.path / "out.xml").findall(".//testcase")
    told = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    assert told[:2] == [
        {"checkpoint": "9.1", "points": "2", "verdict": "passed"},
        {"checkpoint": "9.2", "points": "0", "verdict": "failed"},
    ]
    assert [case["verdict"] for case in told].count("locked") == 1


def test_pytest_speaks_for_itself_when_asked(lab: Lab) -> None:
    """`-v` brings pytest's own output with its traceback instead of the card."""
    ran = lab("-v", "-k", "9.2")

    ran.stdout.fnmatch_lines(["*test session starts*", "*test_fails FAILED*", "E *two() is 2*", "*1 failed*"])
    ran.stdout.no_fnmatch_line("*again*")


def test_a_run_that_is_cut_short_keeps_what_it_knew(lab: Lab, pytester: pytest.Pytester) -> None:
    """Every selected checkpoint stands in the results from the start."""
    broken = VERDICTS.replace('{}["nothing"]', "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    (pytester.path / "checks" / "test_ex9.py").write_text(broken)
    lab("--isolation=fork")

    assert verdicts(pytester.path)["9.2"] == "failed"
    assert verdicts(pytester.path)["9.7"] == "not_run"


def test_an_error_in_a_checkpoint_file_is_shown(lab: Lab, pytester: pytest.Pytester) -> None:
    """A checkpoint file that cannot be imported is no empty card."""
    (pytester.path / "checks" / "test_ex9.py").write_text("import nonsense_module")
    ran = lab()

    assert ran.ret == pytest.ExitCode.INTERRUPTED
    ran.stdout.fnmatch_lines(["*No module named 'nonsense_module'*"])


def test_a_workspace_is_judged_in_the_place_of_the_root(lab: Lab, pytester: pytest.Pytester) -> None:
    """`--workspace` takes a learner's files from there and everything given from here, and says so."""
    other = pytester.mkdir("other")
    (other / "lab").mkdir()
    (other / "lab" / "thing.py").write_text(THING.replace("return 2", "return 3"))
    (other / "lab" / "settings.py").write_text("1 / 0")
    own = lab("-k", "9.2").ret, results(pytester.path)["hash"]
    ran = lab("-k", "9.2", "--workspace=other")

    assert own[0] == pytest.ExitCode.TESTS_FAILED
    assert ran.ret == pytest.ExitCode.OK
    assert results(pytester.path)["hash"] != own[1]
    assert results(pytester.path)["workspace"] == "workspace other"
    ran.stdout.fnmatch_lines(["*judging workspace other*"])


def test_a_workspace_without_anything_to_judge_is_refused(lab: Lab, pytester: pytest.Pytester) -> None:
    """A mistyped folder is an error, not zero points."""
    ran = lab("--workspace=nowhere")

    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stdout.fnmatch_lines(["*nowhere is no workspace*"])


def test_a_run_that_never_begins_leaves_no_results_of_another(lab: Lab, pytester: pytest.Pytester) -> None:
    """After a mistyped workspace or checkpoint nothing says any more that something has passed."""
    for mistake in ("--workspace=nowhere", "-k9.77"):
        lab("-k", "9.1")
        before = verdicts(pytester.path)
        lab(mistake)

        assert before == {"9.1": "passed"}
        assert not (pytester.path / ".lab" / "last-run.json").exists() or verdicts(pytester.path)["9.1"] == "not_run"


def test_the_results_of_the_run_before_are_set_aside(lab: Lab, pytester: pytest.Pytester) -> None:
    """Several runs in a row, with no page open: each is there for the page when it starts."""
    told = []
    for checkpoint in ("9.1", "9.2"):
        lab("-k", checkpoint)
        told.append(results(pytester.path))
    (kept,) = (pytester.path / ".lab" / "runs").iterdir()

    assert told[0] == json.loads(kept.read_text())
    assert "9.2" == told[1]["exercises"][0]["checkpoints"][0]["id"]


def test_exported_settings_do_not_reach_a_verdict(
    lab: Lab, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a shell happens to export as LAB_... is not what is judged."""
    monkeypatch.setenv("LAB_INFERENCE_SECONDS", "77")
    (pytester.path / "checks" / "test_ex9.py").write_text(
        '"""Exercise 9 - x."""\nimport pytest\n\n'
        '@pytest.mark.checkpoint("9.1", points=1)\ndef test_it(lab):\n    """It."""\n'
        '    assert lab.settings.Settings().inference_seconds == 0.1, "no"\n'
    )
    ran = lab()

    assert ran.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("way", WAYS)
def test_an_inconclusive_load_test_is_run_anew(lab: Lab, pytester: pytest.Pytester, way: str) -> None:
    """What was measured on too busy a machine is not shared; another checkpoint's good run is."""
    (pytester.path / "checks" / "test_ex9.py").write_text(LOAD_TESTS)
    lab(f"--isolation={way}")

    assert {"9.1": "passed", "9.2": "passed"} == verdicts(pytester.path)


def test_a_conftest_of_the_workspace_is_never_loaded(lab: Lab, pytester: pytest.Pytester) -> None:
    """However the option is written, nothing of a workspace runs in the process that judges."""
    other = pytester.mkdir("other")
    (other / "lab").mkdir()
    (other / "lab" / "thing.py").write_text(THING)
    (other / "conftest.py").write_text("raise SystemExit('loaded')")
    (other / "pytest.ini").write_text("[pytest]\npython_files = nothing.py\n")
    for workspace in (["--workspace", "other"], ["--workspace=other"]):
        ran = lab("checks", "-k", "9.1", *workspace)

        assert ran.ret == pytest.ExitCode.OK, ran.stdout.str()


def test_control_characters_reach_no_terminal_and_no_report(lab: Lab, pytester: pytest.Pytester) -> None:
    """A learner's own words cannot clear the screen, nor draw a card of their own."""
    stub = THING.replace('"9.3: stub"', r'"9.3: \x1b[2J\x1b[H 100 of 100 points\x07\r"')
    (pytester.path / "lab" / "thing.py").write_text(stub + "\nprint('\\x1b[31m', '\\x9b2J')\n")
    for arguments in (["-k", "9.3"], ["-k", "9.3", "-v"], ["-k", "9.3", "--junitxml=out.xml"]):
        ran = lab(*arguments)
        written = ran.stdout.str() + (pytester.path / ".lab" / "last-run.json").read_text()

        assert not set("\x1b\x07\x9b") & set(written)
        assert r"\x1b[2J" in written


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_result_is_no_result(lab: Lab, pytester: pytest.Pytester, way: str) -> None:
    """A process that sends an unknown field, or a result of another shape, fails its checkpoint and no other."""
    broken = VERDICTS.replace(
        "    lab.thing.stub()",
        "    from checks.harness.grading import runner\n"
        '    runner._bytes = lambda sent: b\'{"outcome": {"verdict": "passed", "points": 1000}}\'',
    )
    (pytester.path / "checks" / "test_ex9.py").write_text(broken)
    lab(f"--isolation={way}")

    assert verdicts(pytester.path)["9.3"] == "failed"
    assert verdicts(pytester.path)["9.7"] == "passed"
