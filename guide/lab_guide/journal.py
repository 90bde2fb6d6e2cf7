"""The learner's journal in `.lab/journal.json` (`lab-journal/v1`): what was predicted, measured and explained."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from lab_guide.fields import Field as TableField

SCHEMA = "lab-journal/v1"

Words = Annotated[str, Field(max_length=200)]


class TooEarly(Exception):
    """Why this cannot be written down: a sentence."""


class Entry(BaseModel):
    """A field of a lesson's table.

    `bench` is the run of the bench that filled it in; empty where that was by hand. `busy` says how busy the machine
    was then, if it was.
    """

    row: str
    column: str
    predicted: Words
    predicted_at: str
    measured: Words = ""
    measured_at: str = ""
    bench: str = ""
    busy: Words = ""


class Journal:
    """The journal of a place. `entries` are by the id of the field, `explained` are sentences by exercise."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._path = folder / "journal.json"
        self.entries: dict[str, Entry] = {}
        self.explained: dict[str, str] = {}
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            if told["schema"] == SCHEMA:
                self.entries = {name: Entry(**entry) for name, entry in told["entries"].items()}
                self.explained = {str(number): str(text) for number, text in told["explained"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            if not read_only:
                self._set_aside()

    def predict(self, field: TableField, text: str) -> None:
        """Write a prediction down.

        Raises:
            TooEarly: it was measured already; who knows the answer does not predict.
        """
        known = self.entries.get(field.id)
        if known and known.measured and known.predicted != text:
            raise TooEarly("This was measured already: its prediction stays as it was.")
        if not known or known.predicted != text:
            self.entries[field.id] = Entry(row=field.row, column=field.column, predicted=text, predicted_at=_now())
            self._write()

    def measure(self, field: TableField, text: str, bench: str = "", busy: str = "") -> None:
        """Write a measurement beside its prediction.

        Raises:
            TooEarly: there is no prediction.
        """
        known = self.entries.get(field.id)
        if not known:
            raise TooEarly("Write down what you expect first.")
        if known.measured != text or known.bench != bench:
            self.entries[field.id] = known.model_copy(
                update={"measured": text, "measured_at": _now(), "bench": bench, "busy": busy}
            )
            self._write()

    def explain(self, exercise: int, text: str) -> None:
        """Write the learner's sentence about an exercise's table down."""
        self.explained[str(exercise)] = text
        self._write()

    def of(self, exercise: int) -> dict[str, Any]:
        """What there is about an exercise."""
        mine = {name: entry.model_dump() for name, entry in self.entries.items() if name.startswith(f"{exercise}.")}
        return {"entries": mine, "explained": self.explained.get(str(exercise), "")}

    def _write(self) -> None:
        told = {
            "schema": SCHEMA,
            "entries": {name: self.entries[name].model_dump() for name in sorted(self.entries)},
            "explained": self.explained,
        }
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._path)

    def _set_aside(self) -> None:
        """Keep a journal that cannot be read, for a person to look at: the next entry would replace it."""
        if self._path.is_file():
            self._path.replace(self._path.with_name(f"journal-{datetime.now():%Y%m%dT%H%M%S}-unread.json"))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
