"""Stubs and solutions agree, stubs earn nothing, solutions everything, and every checkpoint says what it should."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.workspace import open_workspace
from tests.conftest import Judge
from tests.exercises import EXERCISES, Checkpoint, Exercise
from tests.waiting import finished

POINTS = {1: 20, 2: 25, 3: 20, 4: 25, 5: 10, 6: 15, 7: 15}
SOLUTIONS = ROOT / "solutions"
SOLVED = [path.relative_to(SOLUTIONS).as_posix() for path in sorted(SOLUTIONS.rglob("*.py"))]
LEARNERS = [path.relative_to(ROOT).as_posix() for part in ("lab", "loadtests") for path in (ROOT / part).glob("*.py")]
CHECKPOINTS = {checkpoint.id: checkpoint for exercise in EXERCISES.values() for checkpoint in exercise.checkpoints}

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def interface(tree: ast.Module) -> dict[str, str]:
    """What others see of a file: its docstring, and of each function and class how it is defined and what it says."""
    found = {"": ast.get_docstring(tree) or ""}

    def look(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if not isinstance(node, (*Function, ast.ClassDef)) or (node.name.startswith("_") and node.name[1:2] != "_"):
                continue
            name = f"{owner}{node.name}"
            head = [ast.unparse(decorator) for decorator in node.decorator_list]
            if isinstance(node, ast.ClassDef):
                head.append(f"class({', '.join(map(ast.unparse, node.bases))})")
                look(node.body, f"{name}.")
            else:
                returns = ast.unparse(node.returns) if node.returns else ""
                head.append(f"{type(node).__name__}({ast.unparse(node.args)}) -> {returns}")
            found[name] = "\n".join([*head, ast.get_docstring(node) or ""])

    look(tree.body, "")
    return found


def parsed(path: str) -> ast.Module:
    """The syntax tree of a file of this repository."""
    return ast.parse((ROOT / path).read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """The names of all modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", SOLVED)
def test_a_stub_has_the_interface_of_its_solution(path: str) -> None:
    """Names, signatures, decorators and docstrings are the same, so nothing that a learner reads is out of date."""
    assert interface(parsed(f"solutions/{path}")) == interface(parsed(path))


def test_no_stub_fails_at_import() -> None:
    """A stub fails when it is called, not before: else it could not be told from a mistake."""
    modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in LEARNERS]
    done = finished([sys.executable, "-c", f"import {', '.join(modules)}"])

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", LEARNERS)
def test_a_stub_names_the_checkpoint_that_waits_for_it(path: str) -> None:
    """What a stub raises says where to look: the id of a checkpoint comes first."""
    raised = [node.exc for node in ast.walk(parsed(path)) if isinstance(node, ast.Raise) and node.exc]
    for stub in [exc for exc in raised if ast.unparse(exc).startswith("NotImplementedError")]:
        said = ast.literal_eval(stub.args[0]) if isinstance(stub, ast.Call) and stub.args else ""
        checkpoint, _, what = said.partition(": ")

        assert checkpoint in CHECKPOINTS, f"{path}:{stub.lineno}"
        assert what, f"{path}:{stub.lineno}"


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_untouched_stubs_earn_nothing(exercise: Exercise, judge: Judge) -> None:
    """Before the first line is written every checkpoint is open, and none is failed."""
    run = judge(None, exercise.path)

    run.assert_verdicts({c.id: ("not_started", "locked") for c in exercise.checkpoints})


@pytest.mark.cost(60)
@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_solution_earns_every_point(exercise: Exercise, judge: Judge) -> None:
    """The solution passes every checkpoint that needs no Docker engine, and the points are those of the curriculum."""
    run = judge(SOLUTIONS, exercise.path, shared=exercise.number > 2)  # 1, 2: a zygote of its own, as learners have
    expected = {c.id: "locked" if c.needs_engine else "passed" for c in exercise.checkpoints}

    run.assert_verdicts(expected)
    assert all(c["points"] == c["max_points"] for name, c in run.checkpoints.items() if expected[name] == "passed")
    assert POINTS[exercise.number] == sum(c.points for c in exercise.checkpoints)


@pytest.mark.parametrize("path", SOLVED)
def test_the_examples_in_docstrings_hold(path: str, tmp_path: Path) -> None:
    """What a stub promises its learner is what the solution does."""
    tree = open_workspace(ROOT, SOLUTIONS, tmp_path / "tree").tree
    done = finished([sys.executable, "-m", "doctest", path], cwd=tree)

    assert done.returncode == 0, done.stdout + done.stderr


def before_the_bonus(service: str) -> str:
    """The solution's lab/service.py without what exercises 6 and 7 add to create_app, the lifespan and GET /metrics."""
    text = service.replace(' | {"batches": batcher.report(), "streams": streams.report()}', "")
    for line in ("batcher: Batcher = request.app.state.batcher", "streams: StreamMetrics = request.app.state.streams"):
        text = text.replace(f"    {line}\n", "", 1)
    text = re.sub(r"    app\.state\.(decoder|streams) = .*\n", "", text)
    return re.sub(r"        app\.state\.batcher = .*\n(        yield\n)        await .*\n", r"\1", text)


@pytest.mark.exhaustive
@pytest.mark.cost(20)
def test_exercise_1_stands_while_exercise_2_is_untouched(solution: Path, judge: Judge) -> None:
    """Who has finished exercise 1 has all its points, and nothing of exercise 2 is called wrong."""
    for untouched in ("lab/timing.py", "lab/logs.py"):
        shutil.copy(ROOT / untouched, solution / untouched)
    service = solution / "lab/service.py"
    text = re.sub(r"^from lab\.(logs|timing) .*\n", "", before_the_bonus(service.read_text()), flags=re.MULTILINE)
    text = re.sub(r'    with stage\("model"\):\n    ', "", text)
    text = re.sub(r"    collected: Metrics = .*\n.*\n", '    raise NotImplementedError("2.4: GET /metrics")\n', text)
    text = re.sub(r"    configure_logging\(\)\n.*?(?=    return app)", "", text, flags=re.DOTALL)
    service.write_text(text)

    first, second = (judge(solution, f"checks/test_ex{number}.py") for number in (1, 2))

    first.assert_verdicts(dict.fromkeys(first.verdicts, "passed"))
    second.assert_verdicts(dict.fromkeys(second.verdicts, ("not_started", "locked")))


@pytest.mark.exhaustive
@pytest.mark.cost(30)
def test_exercises_1_and_2_stand_while_exercise_4_is_untouched(solution: Path, judge: Judge) -> None:
    """Who has finished exercises 1 and 2 has all their points, and nothing of exercise 4 is called wrong."""
    for untouched in ("admission", "feature_store", "predictions", "serve", "tuning"):
        shutil.copy(ROOT / f"lab/{untouched}.py", solution / f"lab/{untouched}.py")
    burst_seconds = (SOLUTIONS / "lab/predictions.py").read_text().partition("\n\n\ndef max_throughput")[0]
    stubs = (ROOT / "lab/predictions.py").read_text().partition("\n\n\ndef max_throughput")
    (solution / "lab/predictions.py").write_text(burst_seconds + "".join(stubs[1:]))
    service = solution / "lab/service.py"
    before = before_the_bonus(service.read_text())
    text = re.sub(r"^from lab\.(admission|feature_store) .*\n", "", before, flags=re.MULTILINE)
    text = text.replace(", lifespan=lifespan)", ")").replace("    app.state.settings = settings\n", "")
    text = re.sub(r"    app.add_middleware\(\n        AdmissionControl.*?    \)\n", "", text, flags=re.DOTALL)
    text = re.sub(
        r'    with stage\("features"\):.*?(?=\n\n\n)', '    raise NotImplementedError("4.4: it")', text, flags=re.DOTALL
    )
    stub = '    raise NotImplementedError("4.3: lifespan")\n    yield'
    text = re.sub(r"    settings: Settings = app.state.settings.*?yield", stub, text, flags=re.DOTALL)
    service.write_text(text)

    first, second = judge(solution, "checks/test_ex1.py"), judge(solution, "checks/test_ex2.py")
    fourth = judge(solution, "checks/test_ex4.py")

    for run in (first, second):
        run.assert_verdicts(dict.fromkeys(run.verdicts, "passed"))
    fourth.assert_verdicts(dict.fromkeys(fourth.verdicts, ("not_started", "locked")))


@pytest.mark.parametrize("checkpoint", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_says_what_why_and_how(checkpoint: Checkpoint) -> None:
    """It has a title that fits the card, a reason why it matters, and at least one hint."""
    title, _, why = checkpoint.docstring.partition("\n\n")

    assert 0 < len(title.rstrip(".")) <= 40
    assert why
    assert checkpoint.hints >= 1


@pytest.mark.parametrize("number", EXERCISES)
def test_every_assertion_says_what_was_wanted(number: int) -> None:
    """A failure is told in the words of its message: what was seen, then what was wanted."""
    nodes = list(ast.walk(EXERCISES[number].tree))
    said = {node.lineno: node.msg for node in nodes if isinstance(node, ast.Assert)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.fail"]
    said |= {call.lineno: call.args[0] for call in calls}

    assert [line for line, message in said.items() if not _says_what_was_wanted(message)] == []


def _says_what_was_wanted(message: ast.expr | None) -> bool:
    """A `Failure` with a second argument or `wanted`, what a helper returns, or a text in the old form."""
    if isinstance(message, ast.Call):
        keywords = {keyword.arg for keyword in message.keywords}
        return ast.unparse(message.func) != "Failure" or len(message.args) > 1 or "wanted" in keywords
    return message is not None and r"\nwanted: " in ast.unparse(message)


@pytest.mark.parametrize("path", ["loadtests/locustfile.py", *(f"solutions/{path}" for path in SOLVED)])
def test_a_learners_code_knows_nothing_of_checks(path: str) -> None:
    """The service runs without what judges it; of `lab` itself the layers in pyproject.toml say so."""
    assert "checks" not in {name.partition(".")[0] for name in imported(parsed(path))}
