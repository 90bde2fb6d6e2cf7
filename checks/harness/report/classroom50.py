"""The results as Classroom 50 reads them, which has taken the place of GitHub Classroom.

Format: https://github.com/foundation50/classroom50/wiki/Advanced-Autograding (classroom50/result/v1)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from checks.harness.report.results import Run

_IDENTITY = {
    "classroom": "CLASSROOM", "assignment": "ASSIGNMENT", "submission": "SUBMISSION_TAG",
    "commit": "COMMIT_URL", "release": "RELEASE_URL",
}  # fmt: skip
"""Which of its fields the runner gives in which variable."""


def classroom50(run: Run, environment: Mapping[str, str]) -> dict[str, Any]:
    """One test per checkpoint, with the lab's own verdict. Raises `ValueError` where a variable is missing.

    Args:
        run: what was judged.
        environment: the variables that the runner of Classroom 50 sets. `SUBMITTED_AT`, which its autograder adds, is
            the time of the graded commit (ISO 8601); without it the start of the run stands for it.
    """
    if missing := [name for name in _IDENTITY.values() if not environment.get(name)]:
        raise ValueError(f"{', '.join(missing)} is not set: only the runner of Classroom 50 sets it")
    submitted = datetime.fromisoformat(environment.get("SUBMITTED_AT") or run.started).astimezone(UTC)
    tests = [
        {
            "test-name": f"{c.id} {c.title}",
            "passed": c.verdict == "passed",
            "score": c.points,
            "max-score": c.max_points,
            "verdict": c.verdict,
            **({"output": f"{c.message}\n{c.where or ''}".strip()} if c.message else {}),
        }
        for c in run.checkpoints
    ]
    identity = {field: environment[name] for field, name in _IDENTITY.items()}
    return {
        "schema": "classroom50/result/v1",
        **identity,
        "review": environment.get("REVIEW_URL") or identity["commit"],
        "datetime": submitted.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "score": run.points,
        "max-score": run.max_points,
        "tests": tests,
    }
