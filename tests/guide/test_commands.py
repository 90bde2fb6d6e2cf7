"""`lab` as a command: what it prints, and what it costs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from checks.harness import ROOT
from checks.harness.report.results import Checkpoint, Exercise, Run, set_aside, write
from lab_guide.export import html
from lab_guide.main import app
from tests import runs
from tests.guide.opened import LAB
from tests.waiting import finished

HEAVY = ("fastapi", "starlette", "uvicorn", "watchfiles", "docker", "httptools", "pytest", "locust", "markdown_it")


def lab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command, somewhere else than in the lab's folder."""
    return finished([LAB, *map(str, arguments)], cwd=Path(sys.prefix))


def here(*arguments: str | Path) -> Result:
    """The same in this process, where no second of imports is needed."""
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run of one checkpoint on the stubs."""
    folder = tmp_path_factory.mktemp("judged")
    runs.judge(folder, None, "checks/test_ex1.py", "-k", "1.8")
    return folder / "results.json"


def test_status_shows_the_points_of_the_last_run(judged: Path) -> None:
    """Points and verdicts are those of the results; nothing runs."""
    done = lab("status", "--results", judged)

    assert 0 == done.returncode, done.stderr
    assert "Exercise 1" in done.stdout
    assert "1.8" in done.stdout
    assert "0 of 2 points, last judged just now" in done.stdout


def test_status_shows_the_newest_of_each_checkpoint(tmp_path: Path) -> None:
    """A run of one checkpoint leaves the others as they were; a run that never began leaves all of them."""
    results = tmp_path / "work/.lab/last-run.json"
    shutil.copytree(ROOT / "lab", tmp_path / "work/lab")
    for at, names in enumerate((("1.1", "3.4", "3.5"), ("3.5",))):
        set_aside(results)
        passed = [Checkpoint(name, "a title", 2, verdict="passed", points=2) for name in names]
        exercises = [
            Exercise(number, "An exercise", "", mine)
            for number in (1, 3)
            if (mine := [one for one in passed if one.id[0] == str(number)])
        ]
        write(Run("it", "0" * 12, 1, f"2100-01-01T10:00:0{at}+00:00", {}, exercises), results)
    after = here("status", "--results", results)
    set_aside(results)
    gone = here("status", "--results", results)

    for done in (after, gone):
        assert 0 == done.exit_code, done.stderr
        assert "6 of 6 points" in done.stdout, done.stdout
        assert ["1.1", "3.4", "3.5"] == re.findall(r"✓ (\d\.\d)", done.stdout)


def test_status_of_another_workspace_is_that_run_alone(tmp_path: Path) -> None:
    """What is kept beside the results is of other files than a run with `--workspace`."""
    results = tmp_path / ".lab/last-run.json"
    for at, (name, options) in enumerate((("1.1", ""), ("1.2", " --workspace solutions"))):
        set_aside(results)
        exercise = Exercise(1, "An exercise", "", [Checkpoint(name, "a title", 2, verdict="passed", points=2)])
        write(Run("it", "0" * 12, 1, f"2100-01-01T10:00:0{at}+00:00", {}, [exercise], options=options), results)

    assert "2 of 2 points" in here("status", "--results", results).stdout


def test_status_says_what_is_missing(tmp_path: Path) -> None:
    """Without results, or with what is none, a sentence and exit code 1."""
    (tmp_path / "other.json").write_text("{}")

    none, other = (
        here("status", "--results", tmp_path / "none.json"),
        here("status", "--results", tmp_path / "other.json"),
    )

    assert (1, 1) == (none.exit_code, other.exit_code)
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


def test_report_is_one_file(judged: Path, tmp_path: Path) -> None:
    """It has the verdicts and the words of the card, loads nothing, and names no folder of this machine."""
    done = here("report", "--html", tmp_path / "report.html", "--results", judged)
    written = (tmp_path / "report.html").read_text()

    assert 0 == done.exit_code, done.stderr
    assert "0 of 2 points" in written
    assert "burst_seconds" in written
    assert "not started" in written
    assert not re.search(r"<(script|link|img|iframe)|src=|url\(", written)
    assert "/tmp/" not in written


def test_report_escapes_what_a_learner_printed(tmp_path: Path) -> None:
    """Markup in a message stays text; a workspace is not named."""
    evil = "<script>alert(1)</script>"
    failed = Checkpoint("1.8", "a title", 2, verdict="failed", seen=evil, output=evil)
    exercise = Exercise(1, "An exercise", "", [failed])
    run = Run("workspace /home/ada/work", evil, 1, evil, {}, [exercise], options=" --workspace /home/ada/work")

    page = html(run)

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "ada" not in page


def test_doctor_has_a_line_for_everything() -> None:
    """What it looks at is there or not, and each of it is named."""
    done = lab("doctor")

    assert 0 == done.returncode, done.stderr
    for about in ("Python", "Docker", "compose", "core", "port 8000", "port 8460", "browser"):
        assert about in done.stdout


def test_reset_says_why_it_cannot() -> None:
    """An unknown checkpoint is a sentence on stderr and exit code 1."""
    done = here("reset", "9.9")

    assert 1 == done.exit_code
    assert "9.9 is neither a checkpoint nor one of" in done.stderr
