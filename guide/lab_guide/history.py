"""The runs that were: a copy of each in `.lab/runs/`, and of each checkpoint the newest result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks.harness.report.results import NAME, begun, name_of, parse

KEPT = 200
"""Runs that are kept; older ones stay as long as a checkpoint has its newest verdict in them."""

Results = dict[str, Any]
"""A run as its JSON has it."""


def load(path: Path) -> Results | None:
    """A run's results, checked; None where there are none that can be read."""
    try:
        found: Results = json.loads(path.read_text(encoding="utf-8"))
        parse(dict(found), str(path))
        name_of(found)
    except (OSError, ValueError, TypeError):
        return None
    return found


def stamp(path: Path) -> int:
    """What changes when a file is written again; 0 for none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def keep(folder: Path, run: Results, newest: Newest) -> str:
    """Copy a run, or what there is of it so far, and forget the oldest; give the name of the copy.

    A run that holds one of the `newest` results is never forgotten: its points would go with it.
    """
    name = name_of(run)
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    (runs / f"{name}.json").write_text(json.dumps(run), encoding="utf-8")
    needed = {begun(result) for result in newest.results.values()}
    for old in names(folder)[:-KEPT]:
        if old.rpartition("-")[0] not in needed:
            (runs / f"{old}.json").unlink(missing_ok=True)
    return name


def names(folder: Path) -> list[str]:
    """The kept runs from the oldest to the newest."""
    return sorted(path.stem for path in (folder / "runs").glob("*.json") if NAME.fullmatch(path.stem))


def kept(folder: Path, name: str) -> Results | None:
    """A kept run by its name."""
    return load(folder / "runs" / f"{name}.json") if name in names(folder) else None


def judged(run: Results) -> dict[str, Results]:
    """The checkpoints of a run that have a verdict, each with the hash and the time of the run."""
    stamp = {"hash": run["hash"], "started": run["started"]}
    checkpoints = [c for exercise in run["exercises"] for c in exercise["checkpoints"]]
    return {c["id"]: c | stamp for c in checkpoints if c["verdict"] != "not_run"}


def brief(run: Results) -> Results:
    """What a run was about, when it was, and how many of its checkpoints it has judged."""
    told = {name: run.get(name) for name in ("started", "seconds", "finished")}
    return told | {"ids": [c["id"] for e in run["exercises"] for c in e["checkpoints"]], "judged": len(judged(run))}


@dataclass(slots=True)
class Newest:
    """Of each checkpoint the newest result, and in `before` the last of another verdict, if that has a picture."""

    results: dict[str, Results] = field(default_factory=dict)
    before: dict[str, Results] = field(default_factory=dict)

    def take(self, run: Results) -> dict[str, Results]:
        """Take over what a run has judged; give what is new in `before`."""
        changed = {}
        for name, result in judged(run).items():
            known = self.results.get(name)
            if (
                known
                and known["verdict"] != result["verdict"]
                and any(e["kind"] != "number" for e in known["evidence"])
            ):
                changed[name] = known
            self.results[name] = result
        self.before |= changed
        return changed


def newest(folder: Path, last: Results | None) -> Newest:
    """What all kept runs have judged, `last` included."""
    found = Newest()
    for run in [*runs(folder), *([last] if last else [])]:
        found.take(run)
    return found


def runs(folder: Path) -> list[Results]:
    """The kept runs from the oldest to the newest."""
    return [run for name in names(folder) if (run := kept(folder, name))]
