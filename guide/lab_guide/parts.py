"""The parts of the learner's files, by the steps of the lessons: which have changed, and which are stubs again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_guide.lessons import Step

if TYPE_CHECKING:
    from lab_guide.catalogue import Exercise  # it brings pytest, which `lab status` does not need

_STUB = re.compile(r"""raise NotImplementedError\(["'](\d+\.\d+): """)
_TODO = re.compile(r"TODO\((\d+\.\d+)\)")


class Parts:
    """What stood in the files of all steps when they were looked at last."""

    def __init__(self, files: Path, exercises: Iterable[Exercise]) -> None:
        self._files = files
        self._steps = [step for exercise in exercises for step in exercise.steps]
        self._known = {file: self._read(file) for file in sorted({file for step in self._steps for file in step.files})}

    def changed(self, files: Iterable[str]) -> list[str]:
        """The checkpoints whose step names a part of these files that has changed since it was looked at last."""
        found: list[str] = []
        for file in sorted(set(files) & self._known.keys()):
            before, now = self._known[file], self._read(file)
            names = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
            if now:  # else Python cannot read it: nothing is known of its parts
                self._known[file] = now
                found += [
                    name
                    for step in self._steps
                    if file in step.files and _names(step.write) & names
                    for name in step.passes
                ]
        return list(dict.fromkeys(found))

    def again(self, results: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """The checkpoints that had passed, and whose step was changed since and has a stub."""
        return again(self._files, self._steps, results)

    def _read(self, file: str) -> dict[str, str]:
        """The functions of a file, by their names such as `StepLoad.tick` and `StepLoad`; empty for none."""
        try:
            tree = ast.parse((self._files / file).read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            return {}
        found: dict[str, str] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = ast.dump(node)
                inner = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
                found |= {f"{node.name}.{one.name}": ast.dump(one) for one in inner}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name] = ast.dump(node)
        return found


def again(files: Path, steps: Iterable[Step], results: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The checkpoints that had passed, and whose step was changed in these files since and has a stub."""
    found: set[str] = set()
    for step in steps:
        passed = [name for name in step.passes if results.get(name, {}).get("verdict") == "passed"]
        if passed and (since := _stub_since(files, step)):
            found |= {n for n in passed if datetime.fromisoformat(results[n]["started"]).timestamp() < since}
    return found


def _stub_since(files: Path, step: Step) -> float:
    """When a file was changed that has a stub of this step now; 0 where none has."""
    latest = 0.0
    for file in step.files:
        try:
            text, changed = (files / file).read_text(errors="replace"), (files / file).stat().st_mtime
        except OSError:
            continue
        mark = _STUB if file.endswith(".py") else _TODO
        if set(mark.findall(text)) & {*step.marked}:
            latest = max(latest, changed)
    return latest


def _names(words: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", words))


def stub_again(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a checkpoint that has passed and whose part is a stub again."""
    said = "It had passed. Its part is a stub again."
    nothing: dict[str, Any] = {"wanted": "", "hint": "", "where": None, "same_as": "", "evidence": [], "output": ""}
    return {**result, "verdict": "not_started", "points": 0, "seen": said, "message": said, **nothing}
