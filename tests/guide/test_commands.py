"""`lab` as a command: what it prints, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import runs
from tests.waiting import finished

LAB = str(Path(sysconfig.get_path("scripts"), "lab"))
HEAVY = ("fastapi", "starlette", "uvicorn", "watchfiles", "docker", "httptools", "pytest", "locust", "markdown_it")


def lab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command, somewhere else than in the lab's folder."""
    return finished([LAB, *map(str, arguments)], cwd=Path(sys.prefix))


@pytest.fixture
def judged(tmp_path: Path, judge: Callable[..., runs.Judged]) -> Path:
    """The results of a run of one checkpoint on the stubs."""
    judge(None, "checks/test_ex1.py", "-k", "1.8")
    return tmp_path / "results.json"


def test_status_shows_the_points_of_the_last_run(judged: Path) -> None:
    """Points and verdicts are those of the results; nothing runs."""
    done = lab("status", "--results", judged)

    assert 0 == done.returncode, done.stderr
    assert "Exercise 1" in done.stdout
    assert "1.8" in done.stdout
    assert "0 of 2 points, judged just now" in done.stdout


def test_status_says_what_is_missing(tmp_path: Path) -> None:
    """Without results, or with what is none, a sentence and exit code 1."""
    (tmp_path / "other.json").write_text("{}")

    none, other = (
        lab("status", "--results", tmp_path / "none.json"),
        lab("status", "--results", tmp_path / "other.json"),
    )

    assert (1, 1) == (none.returncode, other.returncode)
    assert "uv run pytest checks/test_ex1.py" in none.stderr
    assert "holds no results of the lab" in other.stderr


def test_status_imports_nothing_heavy(judged: Path) -> None:
    """A second is enough for it: what serves, watches or judges is not imported."""
    code = (
        "import sys; from lab_guide.main import app; app(sys.argv[1:], standalone_mode=False);"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = finished([sys.executable, "-c", code, "status", "--results", str(judged)])

    assert done.stdout.endswith("heavy: []\n"), done.stdout + done.stderr


def test_doctor_has_a_line_for_everything() -> None:
    """What it looks at is there or not, and each of it is named."""
    done = lab("doctor")

    assert 0 == done.returncode, done.stderr
    for about in ("Python", "Docker", "compose", "core", "port 8000", "port 8460", "browser"):
        assert about in done.stdout


def test_reset_says_why_it_cannot() -> None:
    """An unknown checkpoint is a sentence on stderr and exit code 1."""
    done = lab("reset", "9.9")

    assert 1 == done.returncode
    assert "9.9 is neither a checkpoint nor one of" in done.stderr
