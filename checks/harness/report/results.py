"""The results of a run, and the JSON that holds them (`lab-results/v1`): every report is made from these."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from checks.harness.errors import Failure
from checks.harness.report.evidence import Evidence

Verdict = Literal["not_run", "passed", "failed", "not_started", "locked", "inconclusive", "lab_error"]

SCHEMA = "lab-results/v1"

NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{12}-\d+")
"""The name of a run among those that are kept: when it began, on which files, and its first exercise."""

BONUS = (6, 7)
"""Exercises whose points are counted beside the 100, and never in them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a checkpoint: its verdict, what is said of it, and what was seen on the way.

    `explains_itself`: neither the checkpoint's reason why nor its general hints can add to the failure. `output` is the
    last lines that the learner's code printed.
    """

    verdict: Verdict
    failure: Failure = field(default_factory=lambda: Failure(""))
    explains_itself: bool = False
    evidence: list[Evidence] = field(default_factory=list)
    seconds: float = 0.0
    output: str = ""


@dataclass(slots=True)
class Checkpoint:
    """One checkpoint: what its file says of it, then what `settle` took from its outcome.

    `message` is `seen`, `wanted` and `hint` as one text. `hint` mends this very failure; `hints` are the general ones.
    `same_as` is the id of an earlier checkpoint that failed by the same mistake, at the same line in the same words.
    """

    id: str
    title: str
    max_points: int
    verdict: Verdict = "not_run"
    points: int = 0
    seconds: float = 0.0
    seen: str = ""
    wanted: str = ""
    message: str = ""
    where: str | None = None
    why: str = ""
    hint: str = ""
    hints: list[str] = field(default_factory=list)
    same_as: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    output: str = ""

    def settle(self, outcome: Outcome) -> None:
        """Take over what became of it."""
        failure = outcome.failure
        self.verdict = outcome.verdict
        self.points = self.max_points if outcome.verdict == "passed" else 0
        self.seen, self.wanted, self.message, self.where = failure.seen, failure.wanted, str(failure), failure.where
        self.hint = failure.hint
        self.hints = [] if outcome.explains_itself else [hint for hint in self.hints if hint != failure.hint]
        self.why = failure.why or ("" if outcome.explains_itself else self.why)
        self.evidence, self.output = outcome.evidence, outcome.output
        self.seconds = round(outcome.seconds, 3)


@dataclass(slots=True)
class Exercise:
    """The checkpoints of one file. `about` is what its docstring says below the title."""

    number: int
    title: str
    about: str
    checkpoints: list[Checkpoint]

    @property
    def points(self) -> int:
        """Points earned."""
        return sum(c.points for c in self.checkpoints)

    @property
    def max_points(self) -> int:
        """Points that could be earned."""
        return sum(c.max_points for c in self.checkpoints)

    @property
    def bonus(self) -> bool:
        """Whether its points are counted beside the others."""
        return self.number in BONUS

    @property
    def untold(self) -> bool:
        """Whether it is a bonus that is locked as a whole: until what it needs has passed, no card shows it."""
        return self.bonus and all(c.verdict in ("locked", "not_run") for c in self.checkpoints)


@dataclass(slots=True)
class Run:
    """Everything that was judged in one run. `started` is ISO 8601, `seconds` how long it took so far."""

    workspace: str
    hash: str
    seed: int
    started: str
    machine: dict[str, Any]
    exercises: list[Exercise]
    options: str = ""
    """What stands on the command line besides the checkpoint, to run it again."""
    seconds: float = 0.0
    finished: bool = False
    """Whether this is its end: a run that was cut off, or goes on, has none."""

    @property
    def checkpoints(self) -> Iterable[Checkpoint]:
        """All of them, in the order of their files."""
        return (c for exercise in self.exercises for c in exercise.checkpoints)

    @property
    def points(self) -> int:
        """Points earned, without the bonus."""
        return sum(e.points for e in self.exercises if not e.bonus)

    @property
    def max_points(self) -> int:
        """Points that could be earned, without the bonus."""
        return sum(e.max_points for e in self.exercises if not e.bonus)

    @property
    def bonus_points(self) -> int:
        """Points earned in bonus exercises."""
        return sum(e.points for e in self.exercises if e.bonus)

    @property
    def max_bonus_points(self) -> int:
        """Points that could be earned in bonus exercises."""
        return sum(e.max_points for e in self.exercises if e.bonus)

    @property
    def score(self) -> str:
        """`93 of 100 points`, or `93 of 100, bonus 22 of 30` where a bonus exercise is open."""
        told = [e for e in self.exercises if e.bonus and not e.untold]
        points, bonus = f"{self.points} of {self.max_points}", f"bonus {self.bonus_points} of {self.max_bonus_points}"
        return f"{points} points" if not told else f"{points}, {bonus}" if self.max_points else bonus

    def compare(self, checkpoint: Checkpoint) -> None:
        """Set `same_as` of a checkpoint that has just failed, if an earlier one failed by the same mistake."""
        for earlier in self.checkpoints:
            if earlier is checkpoint or checkpoint.verdict != "failed":
                return
            if earlier.verdict == "failed" and earlier.where and _mistake(earlier) == _mistake(checkpoint):
                checkpoint.same_as = earlier.id
                return

    @property
    def all_passed(self) -> bool:
        """Whether every selected checkpoint was judged, and passed."""
        return all(c.verdict == "passed" for c in self.checkpoints)


def _mistake(checkpoint: Checkpoint) -> tuple[str | None, str]:
    """What is equal for two failures by the same mistake: line and words; numbers and addresses in them are random."""
    return checkpoint.where, re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "0", checkpoint.seen)


_RUN = TypeAdapter(Run)


def write(run: Run, path: Path) -> None:
    """Write the run as JSON, at once or not at all: a reader never sees half a file."""
    told = _RUN.dump_python(run, mode="json", by_alias=True)
    for exercise, written in zip(run.exercises, told["exercises"], strict=True):
        written |= {"points": exercise.points, "max_points": exercise.max_points, "bonus": exercise.bonus}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # a submission put a folder there
        shutil.rmtree(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps({"schema": SCHEMA, **told}, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def begun(told: Any) -> str:
    """What stands for the run of results, or of one result: when it began, and on which files."""
    return f"{datetime.fromisoformat(told['started']):%Y%m%dT%H%M%S}-{told['hash']}"


def name_of(told: Any) -> str:
    """The name of a run in `runs/`, from its JSON. Raises `ValueError` where that is none of a run."""
    try:
        name = f"{begun(told)}-{told['exercises'][0]['number']}"
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("these are no results of a run") from error
    if not NAME.fullmatch(name):
        raise ValueError(f"{name} is no name of a run")
    return name


def set_aside(path: Path) -> None:
    """Move the results of the run before into `runs/` beside them, where `uv run lab` finds the points of each run.

    Those of another workspace stay: they are not the points of these files.
    """
    with contextlib.suppress(OSError, ValueError):  # there are none, or none that are of use
        told = json.loads(path.read_text(encoding="utf-8"))
        kept = path.with_name("runs") / f"{name_of(told)}.json"
        if not told.get("options"):
            kept.parent.mkdir(exist_ok=True)
            path.replace(kept)


def read(path: Path) -> Run:
    """The run in a JSON file that `write` wrote. Raises `ValueError` for any other."""
    return parse(json.loads(path.read_text(encoding="utf-8")), str(path))


def parse(told: Any, name: str) -> Run:
    """The run in what JSON says that `write` wrote. Raises `ValueError` for anything else; `name` says where it was."""
    if not isinstance(told, dict) or told.pop("schema", None) != SCHEMA:
        raise ValueError(f"{name} holds no results of the lab ({SCHEMA})")
    return _RUN.validate_python(told)
