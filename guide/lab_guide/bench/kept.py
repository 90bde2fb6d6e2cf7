"""The bench's runs in `.lab/bench/`, one JSON file each (`lab-bench/v1`): what was predicted, and what was measured."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from lab_guide.bench.plan import Plan
from lab_guide.bench.quantities import Predicted
from lab_guide.bench.shown import as_json, pictures

SCHEMA = "lab-bench/v1"

KEPT = 200
"""Runs that are kept; of those, the oldest that nobody has explained go first."""

State = Literal["written", "measured", "stub", "no_start", "no_answer", "crashed", "stopped", "lab_error"]

_NAME = re.compile(r"\d{8}T\d{6}(-\d+)?")


class Record(BaseModel):
    """A run of the bench.

    `written` is its state from before the service starts, and stays where nothing came after. `said` and `where` say
    what went wrong, with the learner's line. A row is `[due, ended, status]`, in ms after the start, and
    behind them a stream's tokens. `explained` is the
    learner's own sentence, `cell` the field of a lesson's table that it was measured for.
    """

    name: str
    plan: Plan
    predicted: Predicted
    written_at: str
    state: State = "written"
    said: str = ""
    where: str | None = None
    measured: dict[str, Any] | None = None
    rows: list[list[float]] = Field(default_factory=list)
    left_out: int = 0
    hash: str = ""
    machine: dict[str, Any] = Field(default_factory=dict)
    explained: str = ""
    cell: str = ""

    @property
    def brief(self) -> dict[str, Any]:
        """All of it but its rows."""
        return self.model_dump(exclude={"rows"}) | {"words": str(self.plan), "kind": self.plan.kind}

    @property
    def whole(self) -> dict[str, Any]:
        """All of it, and the pictures that the page does not make of the rows itself."""
        drawn = [] if self.plan.kind == "answer" else pictures(self.plan, self.rows, self.measured or {})
        return self.brief | {"rows": self.rows, "pictures": [*map(as_json, drawn)]}


class Bench:
    """The folder of the runs. A run is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "bench"
        self._known: dict[str, dict[str, Any]] = {}

    def write_down(self, plan: Plan, predicted: Predicted, cell: str = "") -> Record:
        """Keep a prediction, before anything is measured."""
        now = datetime.now().astimezone()
        name, number = f"{now:%Y%m%dT%H%M%S}", 1
        while (self._folder / f"{name}.json").exists():
            number += 1
            name = f"{now:%Y%m%dT%H%M%S}-{number}"
        record = Record(
            name=name, plan=plan, predicted=predicted, written_at=now.isoformat(timespec="seconds"), cell=cell
        )
        self.keep(record)
        return record

    def keep(self, record: Record) -> None:
        """Write a run, at once or not at all, and forget the oldest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{record.name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"schema": SCHEMA, **record.model_dump(mode="json")}) + "\n", encoding="utf-8")
        partial.replace(path)
        self._known[record.name] = record.brief
        for name in self._names()[:-KEPT]:
            if not self._brief(name).get("explained"):
                (self._folder / f"{name}.json").unlink(missing_ok=True)

    def explain(self, name: str, text: str) -> Record | None:
        """Put the learner's sentence to a run; None where there is no such run."""
        if record := self.read(name):
            record.explained = text
            self.keep(record)
        return record

    def read(self, name: str) -> Record | None:
        """A run by its name; None where there is none that can be read."""
        if not _NAME.fullmatch(name):
            return None
        try:
            told = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
            return Record(**told) if told.pop("schema", None) == SCHEMA else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def briefs(self) -> list[dict[str, Any]]:
        """All runs without their rows, from the oldest to the newest."""
        return [brief for name in self._names() if (brief := self._brief(name))]

    def records(self) -> list[Record]:
        """All runs that were measured or explained, from the oldest to the newest."""
        found = (self.read(name) for name in self._names())
        return [record for record in found if record and (record.measured or record.explained)]

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json") if _NAME.fullmatch(path.stem))

    def _brief(self, name: str) -> dict[str, Any]:
        if name not in self._known:
            found = self.read(name)
            self._known[name] = found.brief if found else {}
        return self._known[name]
