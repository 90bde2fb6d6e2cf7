"""The results as Gradescope's autograder reads them.

Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format
"""

from __future__ import annotations

from typing import Any

from checks.harness.report.results import Run


def gradescope(run: Run) -> dict[str, Any]:
    """One test per checkpoint. An inconclusive one or a lab error has no status: it is for a person to look at."""
    status = {"passed": "passed", "failed": "failed", "not_started": "failed", "locked": "failed"}
    tests = [
        {
            "number": c.id,
            "name": f"{c.id} {c.title}",
            "score": c.points,
            "max_score": c.max_points,
            "output": f"{c.verdict.replace('_', ' ')}. {c.message}\n{c.where or ''}".strip(),
            **({"status": status[c.verdict]} if c.verdict in status else {}),
        }
        for c in run.checkpoints
    ]
    return {
        "score": run.points,
        "execution_time": round(run.seconds),
        "output": f"{run.workspace} ({run.hash}), seed {run.seed}: {run.score}",
        "tests": tests,
    }
