"""Every named wrong answer fails exactly the checkpoints it names, in words that fit; every right one passes all.

`wrong_answers/exN.toml` holds the answers, each a change of the solution:

    [[answer]]
    name = "a blocking call in async def"
    file = "lab/service.py"                       # `replace` must occur in it exactly once;
    replace = "await model.predict"               # without `replace` it is a new file
    with = "model.predict_blocking"
    changes = [{ file = ..., replace = ..., with = ... }]    # more of them, where one is not enough
    fails = ["1.4"]                               # exactly these; [] is a right answer, written differently
    locked = ["1.9"]                              # and these are locked by them
    says = "on the event loop's own thread"       # a regex, found in the message; a list where several fail

To be fast, a checkpoint that starts real servers runs only for the answers that name it and for the right ones with
`real = true`: it takes as long as all others together. So does a run, which is mostly waiting: two go on at a time.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.exercises import EXERCISES, ROOT

RUNS_AT_A_TIME = 2
TIMEOUT = 180
REAL = frozenset({"serve"})
"""Fixtures of checkpoints that start real servers."""


@dataclass(frozen=True)
class Answer:
    """One entry of a `wrong_answers/exN.toml`."""

    exercise: int
    name: str
    changes: list[dict[str, str]]
    fails: list[str]
    locked: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    real: bool = False

    def __str__(self) -> str:
        return f"ex{self.exercise}: {self.name}"

    def write(self, workspace: Path) -> None:
        """Put the solution with this answer's changes there."""
        shutil.copytree(ROOT / "solutions", workspace, ignore=shutil.ignore_patterns("__pycache__"))
        for change in self.changes:
            path = workspace / change["file"]
            if "replace" not in change:
                assert not path.exists(), f"{self}: {change['file']} is not new"
                path.write_text(change["with"])
                continue
            text = path.read_text()
            found = text.count(change["replace"])
            assert found == 1, f"{self}: found {found} times in {change['file']}:\n{change['replace']}"
            path.write_text(text.replace(change["replace"], change["with"]))

    def run(self, folder: Path) -> dict[str, dict[str, Any]]:
        """The results of the exercise's checkpoints for this answer, by id."""
        self.write(folder / "workspace")
        exercise, results = EXERCISES[self.exercise], folder / "results.json"
        named = {*self.fails, *self.locked}
        spared = [c for c in exercise.checkpoints if c.fixtures & REAL and c.id not in named and not self.real]
        command = [
            *(sys.executable, "-m", "pytest", exercise.path, "-p", "no:cacheprovider"),
            *("--workspace", str(folder / "workspace"), "--results", str(results)),
            *(f"--deselect={exercise.path}::{checkpoint.function}" for checkpoint in spared),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
        assert results.exists(), f"{self}: no results\n{done.stdout}{done.stderr}"
        told = json.loads(results.read_text())
        return {c["id"]: c for found in told["exercises"] for c in found["checkpoints"]}


def _answers() -> Iterator[Answer]:
    for number in EXERCISES:
        path = ROOT / "tests" / "wrong_answers" / f"ex{number}.toml"
        entries = tomllib.loads(path.read_text())["answer"] if path.exists() else []
        for entry in entries:
            first = {key: entry.pop(key) for key in ("file", "replace", "with") if key in entry}
            changes = [*([first] if first else []), *entry.pop("changes", [])]
            says = entry.pop("says", [])
            yield Answer(number, changes=changes, says=[says] if isinstance(says, str) else says, **entry)


ANSWERS = {str(answer): answer for answer in _answers()}


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """The runs of all answers that this session was asked about, by name, two at a time and each ahead of its test."""
    names = [item.callspec.params["name"] for item in request.session.items if item.path == request.path]  # ty: ignore
    with ThreadPoolExecutor(RUNS_AT_A_TIME) as pool:
        yield {name: pool.submit(ANSWERS[name].run, tmp_path_factory.mktemp("answer")) for name in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_gets_the_verdicts_it_deserves(name: str, runs: dict[str, Future[Any]]) -> None:
    """The checkpoints that an answer names fail or are locked, all others pass, and the messages fit the mistake."""
    answer, checkpoints = ANSWERS[name], runs[name].result()
    expected = dict.fromkeys(checkpoints, "passed")
    expected |= dict.fromkeys(answer.fails, "failed") | dict.fromkeys(answer.locked, "locked")
    messages = {checkpoint: checkpoints[checkpoint]["message"] for checkpoint in answer.fails}

    assert expected == {checkpoint: result["verdict"] for checkpoint, result in checkpoints.items()}, "\n".join(
        f"{c['id']} {c['verdict']}: {c['message']}" for c in checkpoints.values() if c["verdict"] != "passed"
    )
    for words, (checkpoint, message) in zip(answer.says, messages.items(), strict=True):
        assert re.search(words, message), f"{checkpoint} said: {message}"


@pytest.mark.parametrize("number", EXERCISES)
def test_every_checkpoint_is_failed_by_two_named_wrong_answers(number: int) -> None:
    """A checkpoint that hardly any mistake fails proves nothing."""
    found = Counter(checkpoint for a in ANSWERS.values() if a.exercise == number for checkpoint in a.fails)

    assert [] == [c.id for c in EXERCISES[number].checkpoints if found[c.id] < 2]
