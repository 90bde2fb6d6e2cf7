"""After each step of a lesson's table its checkpoints pass, though what later steps write is still a stub."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from tests.answers import REAL
from tests.conftest import Judge
from tests.exercises import EXERCISES

ROW = re.compile(r"^\| *(\d+) *\|[^|]*\|[^|]*\|([^|]*)\|$", re.MULTILINE)
"""A row of the table: the step, files, what to write, what passes then."""
ID = re.compile(r"\d\.\d+")
Function = ast.FunctionDef | ast.AsyncFunctionDef


LATER: dict[str, Any] = {
    "2.9": (
        "create_app",
        (r"    configure_logging\(\)\n", ""),
        (r", log=log_request", ""),
        (r"    app\.add_middleware\(RequestIdMiddleware.*\n", ""),
    ),
    "4.4": ("lifespan", (r"async with open_feature_store.*:\n.*= store\n", "if True:\n")),
    "4.5": ("create_app", (r"    app\.add_middleware\(\n        AdmissionControl,\n(        .*\n)+    \)\n", "")),
}
"""What these checkpoints add to a function whose stub names an earlier one: in the solution, and without them."""


@dataclass(frozen=True)
class Step:
    """A step of a lesson."""

    exercise: int
    number: int
    passes: frozenset[str]
    """The checkpoints of this step and of those before."""
    unwritten: frozenset[str]
    """Those whose stubs are still there."""


def _steps() -> list[Step]:
    found = []
    for number, exercise in EXERCISES.items():
        text = (ROOT / f"lessons/ex{number}.md").read_text().partition("| step |")[2].partition("\n\n")[0]
        passes, written = set[str](), set[str]()
        for row in ROW.finditer(text):
            passes |= {*ID.findall(row[2].partition("(")[0])}
            written |= {*ID.findall(row[2])}  # "(the stubs are marked 7.3)"
            unwritten = frozenset(checkpoint.id for checkpoint in exercise.checkpoints) - written
            found.append(Step(number, int(row[1]), frozenset(passes), unwritten))
    return found


STEPS = _steps()


def _functions(tree: ast.Module) -> dict[str, Function]:
    methods = {f"{one.name}.": one.body for one in tree.body if isinstance(one, ast.ClassDef)}
    bodies = {"": tree.body} | methods
    return {owner + one.name: one for owner, body in bodies.items() for one in body if isinstance(one, Function)}


def _waits_for(function: Function) -> str:
    """The checkpoint whose id the stub names; empty where it is none."""
    raised = [ast.unparse(node.exc) for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc]
    named = [ID.search(text) for text in raised if text.startswith("NotImplementedError(")]
    return named[0][0] if named and named[0] else ""


def put_back(workspace: Path, unwritten: frozenset[str]) -> list[str]:
    """Put the stubs that name these checkpoints back into a solved workspace; the names of their functions."""
    done = []
    for solved in sorted(path for folder in ("lab", "loadtests") for path in (workspace / folder).glob("*.py")):
        given = ROOT / solved.relative_to(workspace)
        stubs, stub_lines = _functions(ast.parse(given.read_text())), given.read_text().splitlines(keepends=True)
        ours, lines = _functions(ast.parse(solved.read_text())), solved.read_text().splitlines(keepends=True)
        last_first = sorted(ours.items(), key=lambda one: -one[1].lineno)
        for name, function in last_first:
            if name in stubs and _waits_for(stubs[name]) in unwritten:
                stub = stubs[name]
                lines[function.lineno - 1 : function.end_lineno] = stub_lines[stub.lineno - 1 : stub.end_lineno]
                done.append(name)
        solved.write_text("".join(lines))
    service = workspace / "lab/service.py"
    for checkpoint in unwritten & LATER.keys():
        function, *changes = LATER[checkpoint]
        for added, before in changes if function not in done else ():
            text, count = re.subn(added, before, service.read_text())
            assert count == 1, added
            service.write_text(text)
    return done


@pytest.mark.parametrize("number", EXERCISES)
def test_every_checkpoint_belongs_to_a_step(number: int) -> None:
    """The last row of the table leaves no checkpoint out."""
    last = [step for step in STEPS if step.exercise == number][-1]

    assert {checkpoint.id for checkpoint in EXERCISES[number].checkpoints} == last.passes


@pytest.mark.exhaustive
@pytest.mark.cost(10)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.exercise}-{step.number}")
def test_a_step_is_enough_for_its_checkpoints(step: Step, solution: Path, judge: Judge) -> None:
    """They pass while the rest is a stub, and none of the others is called wrong. Real servers are left out."""
    exercise = EXERCISES[step.exercise]
    chosen = [checkpoint for checkpoint in exercise.checkpoints if not checkpoint.fixtures & REAL]
    if not chosen:
        pytest.skip("all its checkpoints start servers or containers")
    put_back(solution, step.unwritten)

    run = judge(solution, *(f"{exercise.path}::{checkpoint.function}" for checkpoint in chosen))

    open_ = ("passed", "not_started", "locked")
    run.assert_verdicts({one.id: "passed" if one.id in step.passes else open_ for one in chosen})
