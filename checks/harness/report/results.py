"""The results of a run: what every report tells, and the JSON that holds it (`lab-results/v1`)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

Verdict = Literal["not_run", "passed", "failed", "not_started", "locked", "inconclusive", "lab_error"]
Evidence = dict[str, Any]
"""`{"kind": "number" | "timeline" | "histogram" | "table" | "curve", ...}`, as `evidence.Show` collects it."""

SCHEMA = "lab-results/v1"


@dataclass(slots=True)
class Checkpoint:
    """One checkpoint: `seen`, `wanted` and `message` (both, or the one sentence there is) are for a learner to read."""

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
    hints: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    output: str = ""
    """The last lines that the learner's code printed."""

    def judge(self, verdict: Verdict, message: str = "") -> None:
        """Set the verdict, the points that follow from it, and what is said.

        That is what was seen; then, on lines of their own, `wanted: ` what was wanted and `try: ` a hint that fits.
        """
        assert verdict in get_args(Verdict)
        message = message.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no place in a report
        self.verdict = verdict
        self.points = self.max_points if verdict == "passed" else 0
        self.message = message
        said, *hint = re.split(r"\n\s*try: ", message, maxsplit=1)  # pytest indents the lines of a message
        seen, *wanted = re.split(r"\n\s*wanted: ", said, maxsplit=1)
        self.seen, self.wanted = seen.strip(), "".join(wanted).strip()
        self.hints = [*(one.strip() for one in hint), *(one for one in self.hints if one.strip() not in "".join(hint))]


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
    """What to repeat on the command line to get the same run of one checkpoint."""
    seconds: float = 0.0

    @property
    def checkpoints(self) -> Iterable[Checkpoint]:
        """All of them, in the order of their files."""
        return (c for exercise in self.exercises for c in exercise.checkpoints)

    @property
    def all_passed(self) -> bool:
        """Whether every selected checkpoint was judged, and passed."""
        return all(c.verdict == "passed" for c in self.checkpoints)


def write(run: Run, path: Path) -> None:
    """Write the run as JSON, at once or not at all: a reader never sees half a file."""
    exercises = [
        {**asdict(exercise), "points": exercise.points, "max_points": exercise.max_points} for exercise in run.exercises
    ]
    text = json.dumps({"schema": SCHEMA, **asdict(run), "exercises": exercises}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> Run:
    """The run in a JSON file that `write` wrote. Raises `ValueError` for any other."""
    told = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(told, dict) or told.pop("schema", None) != SCHEMA:
        raise ValueError(f"{path} holds no results of the lab ({SCHEMA})")
    exercises = [_exercise(exercise) for exercise in told.pop("exercises")]
    return Run(exercises=exercises, **told)


def _exercise(told: dict[str, Any]) -> Exercise:
    checkpoints = [Checkpoint(**checkpoint) for checkpoint in told.pop("checkpoints")]
    known = {f.name for f in fields(Exercise)}
    return Exercise(checkpoints=checkpoints, **{key: value for key, value in told.items() if key in known})
