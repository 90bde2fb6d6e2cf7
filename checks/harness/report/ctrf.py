"""The results in the Common Test Report Format, which dashboards and CI read.

Format: https://github.com/ctrf-io/ctrf (specification 0.1.0)
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from checks.harness.report.results import Run

STATUS = {
    "passed": "passed",
    "failed": "failed",
    "not_started": "failed",
    "locked": "skipped",
    "not_run": "pending",
    "inconclusive": "other",
    "lab_error": "other",
}


def ctrf(run: Run) -> dict[str, Any]:
    """One test per checkpoint; points and the lab's own verdict are in `extra` and `rawStatus`."""
    tests = [
        {
            "name": f"{c.id} {c.title}",
            "status": STATUS[c.verdict],
            "rawStatus": c.verdict,
            "duration": round(c.seconds * 1000),
            "suite": [f"Exercise {exercise.number} - {exercise.title}"],
            **({"message": c.message} if c.message else {}),
            **({"trace": c.where} if c.where else {}),
            "extra": {"checkpoint": c.id, "points": c.points, "max_points": c.max_points},
        }
        for exercise in run.exercises
        for c in exercise.checkpoints
    ]
    counts = Counter(test["status"] for test in tests)
    start = round(datetime.fromisoformat(run.started).timestamp() * 1000)
    return {
        "reportFormat": "CTRF",
        "specVersion": "0.1.0",
        "results": {
            "tool": {"name": "inference-latency-lab"},
            "summary": {
                "tests": len(tests),
                **{status: counts[status] for status in ("passed", "failed", "skipped", "pending", "other")},
                "start": start,
                "stop": start + round(run.seconds * 1000),
            },
            "tests": tests,
            "extra": {"workspace": run.workspace, "hash": run.hash, "seed": run.seed},
        },
    }
