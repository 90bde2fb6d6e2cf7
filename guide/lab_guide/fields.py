"""The fields of the lessons' tables under *Predict before you measure*, and the measurement that fills one in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lab_guide.bench.plan import Plan
from lab_guide.lessons import section

HEADING = "Predict before you measure"

_PATHS = {"async": "/predict", "threaded": "/predict/threaded", "blocking": "/predict/blocking"}
_COLUMNS = {
    "requests/s": "per_second",
    "mean ms": "mean_ms",
    "p95 ms": "p95_ms",
    "mean batch": "batch_mean",
    "streams/s": "per_second",
    "TTFT p50, ms": "ttft_p50_ms",
    "TPOT p50, ms": "tpot_p50_ms",
}
_CLOSED = {3: "", 6: "/predict/batched", 7: "/generate"}
"""The path that a closed loop asks in these exercises; where it is empty, each row names one."""
_BY_HAND = {
    2: "it is in `/metrics`, which the bench does not read. The commands are below the table.",
    4: "the service has no such endpoint, so the bench cannot measure it. `uv run pytest checks/test_ex4.py -k 4.2` "
    "measures a service of the lab, with 10 ms of computing: its table has the numbers.",
    5: 'the bench runs no containers. The commands are under "Try it by hand".',
    7: "it is not measured, it follows from the other numbers. Your `slots_needed` computes it.",
}
"""How the fields of an exercise are filled in for which the bench measures nothing."""
_TABLE = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Field:
    """An empty cell, other than the first of its row.

    `id` is "1.0.2.1": exercise, table of the section, row of its body and column, the last three from 0 on. `row` and
    `column` are what stands beside and above it. `plan` and `quantity` say what the bench measures for it; without them
    it is filled in by hand, and `how` says how.
    """

    id: str
    row: str
    column: str
    plan: Plan | None = None
    quantity: str = ""
    how: str = ""

    @property
    def exercise(self) -> int:
        """The exercise that it belongs to."""
        return int(self.id.partition(".")[0])


def fields(exercise: int, lesson: str) -> list[Field]:
    """The fields of a lesson, row by row."""
    found: list[Field] = []
    for number, table in enumerate(_TABLE.findall(section(lesson, HEADING))):
        head, _, *rows = [_cells(line) for line in table.splitlines()]
        for n, cells in enumerate(rows):
            known = [cell for cell in cells if cell]
            for column, cell in enumerate(cells):
                if not cell and column:
                    plan, quantity = _measured(exercise, known, head[column])
                    words = ", ".join(
                        f"{name}: {value}" if name else value for name, value in zip(head, known, strict=False)
                    )
                    how = "" if plan else _BY_HAND.get(exercise, "the bench does not measure it.")
                    found.append(Field(f"{exercise}.{number}.{n}.{column}", words, head[column], plan, quantity, how))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _measured(exercise: int, row: list[str], column: str) -> tuple[Plan | None, str]:
    """What the bench measures for a cell, by the words beside and above it."""
    path = _PATHS.get(column.partition(" ")[0].rstrip(","))
    wanted: dict[str, Any] = {}
    quantity = "last_s"
    if exercise == 1 and path:
        wanted = {"path": path, "load": "burst", "connections": int(row[0])}
    elif exercise == 2 and column == "slowest caller":
        wanted = {"path": row[0], "load": "burst", "connections": 60}
    elif exercise == 4 and path:
        workers = int(row[0])  # 60 users for each: more than it has threads
        quantity = "per_second"
        wanted = {"path": path, "load": "closed", "connections": 60 * workers, "seconds": 5, "workers": workers}
    elif exercise in _CLOSED and column in _COLUMNS:
        quantity = _COLUMNS[column]
        asked = _CLOSED[exercise] or row[0]
        wanted = {"path": asked, "load": "closed", "connections": int(row[-1]), "seconds": 5}
    return (Plan(**wanted), quantity) if wanted else (None, "")
