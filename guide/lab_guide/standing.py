"""Where a learner stands: of each checkpoint the newest result, open again where its part is a stub again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checks.harness.report.results import Run, parse
from lab_guide import ROOT, history, lessons
from lab_guide.parts import again, stub_again


def standing(results: Path, files: Path | None = None) -> Run:
    """Where the learner stands whose results these are: the last run, and those that are kept beside it.

    `files` are the learner's, where the results are not in their `.lab`.

    Raises:
        ValueError: there are no results that can be read.
    """
    kept = history.names(results.parent)
    last = history.load(results) or (history.kept(results.parent, kept[-1]) if kept else None)  # one that never began
    if last is None:
        raise ValueError(f"{results} holds no results of the lab")
    if of_others(last, results):  # those that are kept are of the files beside them
        return parse(dict(last), str(results))
    beside = results.parent.parent if results.parent.name == ".lab" else None
    return newest(results.parent, last, files or beside)


def of_others(run: Mapping[str, Any], results: Path) -> bool:
    """Whether a run with `--workspace` was of other files than those that its results stand beside."""
    words = shlex.split(run.get("options", ""))
    return bool(words) and results.parent.name == ".lab" and (ROOT / words[-1]).resolve() != results.parent.parent


def newest(folder: Path, last: Mapping[str, Any], files: Path | None = None) -> Run:
    """A run of the newest result of each checkpoint that was judged, of the exercises that have one.

    `files` are the learner's: what had passed is open where its part is a stub now.
    """
    judged = history.newest(folder, dict(last)).results
    if files is not None:
        judged |= {name: stub_again(judged[name]) for name in again(files, lessons.all_steps(ROOT), judged)}
    exercises: dict[int, dict[str, Any]] = {}
    for run in [*history.runs(folder), last]:
        for exercise in run["exercises"]:
            known = exercises.setdefault(
                exercise["number"],
                {"number": exercise["number"], "title": exercise["title"], "about": "", "checkpoints": {}},
            )
            known["title"] = exercise["title"]
            known["checkpoints"] |= {c["id"]: judged.get(c["id"], c) for c in exercise["checkpoints"]}
    for exercise in exercises.values():
        exercise["checkpoints"] = [
            exercise["checkpoints"][name] for name in sorted(exercise["checkpoints"], key=_order)
        ]
    told = dict(last) | {"exercises": [exercises[number] for number in sorted(exercises)]}
    return parse(told, "the newest results")


def _order(checkpoint: str) -> tuple[int, ...]:
    return tuple(map(int, checkpoint.split(".")))
