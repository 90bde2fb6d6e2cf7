"""Every named wrong answer fails exactly the checkpoints it names, in words that fit; every right one passes them all.

`wrong_answers/exN.toml` holds the answers, each a change of the solution:

    [[answer]]
    name = "a blocking call in async def"
    file = "lab/service.py"                       # `replace` must occur in it exactly once;
    replace = "await model.predict"               # without `replace` it is a new file
    with = "model.predict_blocking"
    changes = [{ file = ..., replace = ..., with = ... }]    # more of them, where one is not enough
    fails = ["1.4"]                               # exactly these; [] is a right answer, written differently
    locked = ["1.9"]                              # and these are locked: by them, or not to be checked here
    says = "on the event loop's own thread"       # a regex found in seen and wanted; a list where several fail
    hint = "await model.predict"                  # a regex found in the hint; "" where no hint may be shown; a list ...

A checkpoint that starts real servers, or Locust, takes longer than all others together: it runs only for the answers
that name it in `fails`, in `locked` or in `real = ["1.9"]`, and for those with `real = true`. One that needs a Docker
engine runs for none of them: answers with `live = true` fail it, and are judged where an engine answers, by
tests/test_containers.py.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from checks.harness import ROOT
from tests.exercises import EXERCISES, Checkpoint
from tests.runs import Judged, judge

REAL = frozenset({"serve", "serve_target", "load_test", "feature_store", "deploy"})
"""Fixtures of checkpoints that start real servers, or Locust."""


@dataclass(frozen=True)
class Answer:
    """One entry of a `wrong_answers/exN.toml`."""

    exercise: int
    name: str
    changes: list[dict[str, str]]
    fails: list[str]
    locked: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    hints: list[str] | None = None
    real: bool | list[str] = False
    live: bool = False

    def write(self, workspace: Path) -> None:
        """Put the solution there, with this answer's changes."""
        shutil.copytree(ROOT / "solutions", workspace, ignore=shutil.ignore_patterns("__pycache__"))
        for change in self.changes:
            path = workspace / change["file"]
            if "replace" not in change:
                assert not path.exists(), f"{change['file']} is not new"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(change["with"])
                continue
            text = path.read_text()
            found = text.count(change["replace"])
            assert found == 1, f"found {found} times in {change['file']}, wanted once:\n{change['replace']}"
            path.write_text(text.replace(change["replace"], change["with"]))

    def run(self, folder: Path) -> Judged:
        """Judge this answer, as `pytest checks/test_exN.py --workspace DIR` does."""
        self.write(folder / "workspace")
        exercise = EXERCISES[self.exercise]
        spared = [checkpoint for checkpoint in exercise.checkpoints if not self.wants(checkpoint)]
        deselected = [f"--deselect={exercise.path}::{checkpoint.function}" for checkpoint in spared]
        return judge(folder, folder / "workspace", exercise.path, *deselected, engine=self.live)

    def wants(self, checkpoint: Checkpoint) -> bool:
        """Whether that checkpoint runs for this answer."""
        named = {*self.fails, *self.locked, *(self.real if isinstance(self.real, list) else ())}
        quick = not checkpoint.fixtures & REAL
        return quick or checkpoint.id in named or (self.real is True and not checkpoint.needs_engine)


def _answers() -> Iterator[tuple[str, Answer]]:
    for number in EXERCISES:
        path = ROOT / "tests" / "wrong_answers" / f"ex{number}.toml"
        for entry in tomllib.loads(path.read_text())["answer"] if path.exists() else []:
            first = {key: entry.pop(key) for key in ("file", "replace", "with") if key in entry}
            changes = [*([first] if first else []), *entry.pop("changes", [])]
            says, hints = (_listed(entry.pop(key, None)) for key in ("says", "hint"))
            answer = Answer(number, changes=changes, says=says or [], hints=hints, **entry)
            yield f"{number}: {answer.name}", answer


def _listed(value: str | list[str] | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value


ANSWERS = dict(_answers())
HERE = {name: answer for name, answer in ANSWERS.items() if not answer.live}


@pytest.mark.parametrize("case", HERE.values(), ids=HERE)
def test_an_answer_gets_the_verdicts_it_deserves(case: Answer, run: Judged) -> None:
    """The checkpoints that an answer names fail or are locked, all others pass, and what is said fits the mistake."""
    assert_deserved(case, run)


def assert_deserved(case: Answer, run: Judged) -> None:
    """The verdicts are those that the answer names, in words that fit."""
    results = run.checkpoints
    expected = dict.fromkeys(results, "passed")
    expected |= dict.fromkeys(case.fails, "failed") | dict.fromkeys(case.locked, "locked")
    said = {c["id"]: f"{c['seen']}\nwanted: {c['wanted']}" for c in results.values()}
    told = "\n".join(f"{c} {result['verdict']}: {said[c]}" for c, result in results.items() if said[c])

    assert expected == run.verdicts, told
    for checkpoint, words in zip(case.fails, case.says, strict=True):
        assert re.search(words, said[checkpoint]), told
    for checkpoint, words in zip(case.fails, case.hints or [], strict=case.hints is not None):
        hint = results[checkpoint]["hint"]
        assert re.search(words, hint) if words else not hint, f"{told}\nhint: {hint}"


def test_what_needs_an_engine_runs_for_live_answers_alone() -> None:
    """Named by one of the others it would be locked on one machine, and judged on another."""
    engines = [checkpoint for checkpoint in EXERCISES[5].checkpoints if checkpoint.needs_engine]

    assert ["5.5"] == [checkpoint.id for checkpoint in engines]
    assert not any(answer.wants(checkpoint) for answer in HERE.values() for checkpoint in engines)
    assert Answer(5, "frozen", [], ["5.5"], live=True).wants(engines[0])


@pytest.mark.parametrize("number", EXERCISES)
def test_every_checkpoint_is_failed_by_two_named_wrong_answers(number: int) -> None:
    """A checkpoint that hardly any mistake fails proves nothing."""
    fails = Counter(checkpoint for a in ANSWERS.values() if a.exercise == number for checkpoint in a.fails)

    assert all(fails[checkpoint.id] >= 2 for checkpoint in EXERCISES[number].checkpoints), fails
