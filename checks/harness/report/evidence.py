"""What a checkpoint shows beside its verdict: the number that decided it, and pictures of what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Show:
    """Collects evidence. Everything in it is plain JSON."""

    def __init__(self) -> None:
        self.evidence: list[dict[str, Any]] = []
        self.where: str | None = None

    def number(self, text: str, value: float) -> None:
        """The number that decides, in words of at most 40 characters or so."""
        self.evidence.append({"kind": "number", "text": text, "value": value})

    def picture(self, evidence: dict[str, Any]) -> None:
        """A `trace.timeline` or a `trace.histogram`."""
        self.evidence.append(evidence)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Columns side by side; cells are shown as they are."""
        cells = [[str(cell) for cell in row] for row in rows]
        self.evidence.append({"kind": "table", "title": title, "columns": list(columns), "rows": cells})

    def at(self, where: str | None) -> None:
        """The learner's line that matters, where no exception tells it."""
        self.where = where or self.where
