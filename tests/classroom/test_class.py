"""A class graded for real: right, wrong, broken and hostile submissions, killed in the middle and resumed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.classroom import gradebook, jobs
from checks.harness.classroom.grading import Grade, Plan
from checks.harness.classroom.submissions import find
from checks.harness.grading.markers import markers
from checks.harness.walls import bwrap
from tests.answers import ANSWERS
from tests.waiting import until

CELL = "plain" if bwrap.missing() else "bwrap"
PLAN = Plan((1,), CELL, seconds=150)
CHEATS = tomllib.loads(Path(__file__).with_name("cheats.toml").read_text())["cheat"]
DAEMON = "a daemon of eve"
"""What the process that a cheat leaves behind says in its command line."""


class Quiet:
    """Listens, and remembers."""

    def __init__(self) -> None:
        self.fresh: list[str] = []
        self.kept: list[str] = []
        self.again: list[str] = []

    def begin(self, total: int) -> None:
        """Nothing."""

    def graded(self, grade: Grade, *, kept: bool) -> None:
        """Remember it."""
        (self.kept if kept else self.fresh).append(grade.submission.name)

    def retry(self, total: int) -> None:
        """Nothing."""

    def retried(self, grade: Grade) -> None:
        """Remember it."""
        self.again.append(grade.submission.name)


def deserved(*names: str) -> int:
    """The points of exercise 1 without those checkpoints, and without what waits for them."""
    lost = set(names)
    for marker in markers(1):
        if set(marker.needs) & lost:
            lost.add(marker.id)
    return sum(marker.points for marker in markers(1) if marker.id not in lost)


WRONG = {
    f"wrong: {name}": ANSWERS[f"1: {name}"]
    for name in (
        "health without the pid", "a blocking call in async def", "no title", "a rounded answer", "500 on empty",
        "the sum for the mean", "two model calls", "no wait", "a global lock", "create_app forgets to return the app",
    )
}  # fmt: skip
DESERVED = {
    **dict.fromkeys(("right", "right-copied", "right-zipped", "right in a folder"), 20),
    **dict.fromkeys(("stub", "stub-zipped"), 0),
    **{name: deserved(*answer.fails, *answer.locked) for name, answer in WRONG.items()},
    **{cheat["name"]: 0 for cheat in CHEATS},
    "no-python": 0,
}
"""Those that can be judged, with their points."""
REFUSED = {
    "no-lab": "it holds no folder `lab`",
    "no-zip": "it is a zip that cannot be read",
    "empty": "it is empty",
    "a-file.txt": "it is neither a folder nor a zip",
    "a-loop": "lab/again is a link that leads nowhere, or to itself",
    "a-bomb": "lab/bomb.txt makes it larger than 20 MB",
}
"""Those that cannot be judged, with the reason."""


def lay(folder: Path) -> None:
    """A class of thirty-one: what each one's work is like is its name."""
    spared = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "solutions", folder / "right", ignore=spared)
    shutil.copytree(ROOT / "solutions", folder / "right-copied", ignore=spared)
    (folder / "stub").mkdir()
    shutil.copytree(ROOT / "lab", folder / "stub" / "lab", ignore=spared)
    shutil.copytree(ROOT / "solutions", folder / "right in a folder" / "ada-main", ignore=spared)
    for name, path in (("right-zipped", folder / "right"), ("stub-zipped", folder / "stub")):
        shutil.make_archive(str(folder / name), "zip", path)
    for name, answer in WRONG.items():
        answer.write(folder / name)
    broken = shutil.copytree(ROOT / "solutions", folder / "no-python", ignore=spared) / "lab"
    for path in broken.glob("*.py"):
        path.write_text("def (:\n")
    (folder / "no-lab" / "src").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "a-file.txt").write_text("my homework")
    shutil.copytree(folder / "stub", folder / "a-loop")
    (folder / "a-loop" / "lab" / "again").symlink_to("..", target_is_directory=True)
    shutil.copy(folder / "stub-zipped.zip", folder / "a-bomb.zip")
    with zipfile.ZipFile(folder / "a-bomb.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lab/bomb.txt", bytes(50 * 2**20))
    (folder / "no-zip.zip").write_bytes(b"PK nonsense")
    for cheat in CHEATS:
        lab = shutil.copytree(ROOT / "lab", folder / cheat["name"] / "lab", ignore=spared)
        (lab / "service.py").write_text(cheat["code"] + (lab / "service.py").read_text())


def begin_and_kill(folder: Path, out: Path) -> None:
    """Grade the class in a process of its own, which is killed once ten grades are there."""
    program = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from checks.harness.classroom import jobs
from checks.harness.classroom.submissions import find
from tests.classroom.test_class import PLAN, Quiet
with ThreadPoolExecutor(2) as executor:
    jobs.grade_class(find(Path({str(folder)!r})), PLAN, Path({str(out)!r}), executor, Quiet())
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as process:
        until(lambda: len(list(out.glob("*/grade.json"))) >= 10, "ten grades", 300)
        process.send_signal(signal.SIGKILL)
    until(lambda: not runs_in(out), "the end of what was running when it was killed")
    assert not (out / "grades.csv").exists()


def graded(folder: Path, out: Path, plan: Plan = PLAN) -> tuple[list[Grade], Quiet]:
    """Grade the class, or what is left of it, in this process."""
    quiet = Quiet()
    with ThreadPoolExecutor(2) as executor:
        grades = jobs.grade_class(find(folder), plan, out, executor, quiet)
    gradebook.write(grades, plan, out)
    return grades, quiet


def table(out: Path) -> dict[str, dict[str, str]]:
    """`grades.csv` by name."""
    with (out / "grades.csv").open(newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


def runs_in(out: Path) -> list[str]:
    """The command lines of processes that have to do with these grades, or that a cheat has left."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if process.pid != os.getpid() and (str(out) in line or DAEMON in line):
            found.append(line)
    return found


@pytest.mark.exhaustive
@pytest.mark.cost(60)
def test_a_class_is_graded_killed_and_resumed(tmp_path: Path) -> None:
    """One class and one test, for a class takes minutes: what each part asserts is said where it stands."""
    folder, out = tmp_path / "class", tmp_path / "grades"
    lay(folder)
    begin_and_kill(folder, out)
    grades, quiet = graded(folder, out)
    rows = table(out)

    only_the_rest_was_graded(grades, quiet)
    every_grade_is_what_its_folder_deserves(rows)
    a_bad_submission_is_one_clear_line(rows)
    every_submission_has_its_reports(rows, out)
    the_teacher_sees_the_class(out)
    nothing_runs_and_nothing_lies_about(rows, out)
    a_third_run_has_nothing_to_judge(folder, out)
    two_cannot_grade_into_one_folder(folder, out)


def only_the_rest_was_graded(grades: list[Grade], quiet: Quiet) -> None:
    """Those that are refused have no hash, and are looked at again."""
    assert quiet.kept
    assert "no-lab" in quiet.fresh
    assert not set(quiet.kept) & set(quiet.fresh)
    assert {*quiet.kept, *quiet.fresh} == {grade.submission.name for grade in grades}


def every_grade_is_what_its_folder_deserves(rows: dict[str, dict[str, str]]) -> None:
    """Right ones have all points, a stub none, wrong ones lack those of their mistake, and no cheat gains a point."""
    points = {name: int(row["points"]) for name, row in rows.items()}
    unsure = {name for name, row in rows.items() if row["unsettled"] and not row["problem"]}
    wrong = {name: (points[name], most) for name, most in DESERVED.items() if points[name] != most}

    assert set(rows) == {*DESERVED, *REFUSED}
    assert {name: both for name, both in wrong.items() if name not in unsure or both[0] > both[1]} == {}
    assert len(unsure) <= 3, unsure
    assert all(row["max_points"] == "20" and row["cell"] == CELL for row in rows.values())
    assert rows["right"]["hash"] == rows["right-copied"]["hash"] != rows["stub"]["hash"]


def a_bad_submission_is_one_clear_line(rows: dict[str, dict[str, str]]) -> None:
    """Refused, or without a verdict: said in the CSV, and every checkpoint is listed as unsettled."""
    for name, why in REFUSED.items():
        assert why in rows[name]["problem"]
    assert "no verdict: it was ended by signal 9" in rows["kills-the-judge"]["problem"]
    assert rows["kills-what-it-sees"]["problem"].startswith(("no verdict", "its run was ended from inside"))
    for name in (*REFUSED, "kills-the-judge", "kills-what-it-sees"):
        assert "\n" not in rows[name]["problem"]
    every = [f"1.{number}" for number in range(1, 10)]
    assert [rows[name]["unsettled"].split() for name in REFUSED] == [every] * len(REFUSED)
    assert all(rows[name]["unsettled"] for name in ("kills-the-judge", "kills-what-it-sees"))
    for name in ("right", "stub", "no-python", *WRONG):
        assert rows[name]["problem"] == ""
    assert all(row["problem"] for name, row in rows.items() if row["unsettled"] and name in {c["name"] for c in CHEATS})


def every_submission_has_its_reports(rows: dict[str, dict[str, str]], out: Path) -> None:
    """JSON, JUnit, CTRF, Gradescope, the card and a page: all of them say the same points."""
    for name, row in rows.items():
        points = int(row["points"])
        results = json.loads((out / name / "results.json").read_text())
        told = json.loads((out / name / "ctrf.json").read_text())["results"]
        gradescope = json.loads((out / name / "gradescope" / "results.json").read_text())
        cases = ElementTree.parse(out / name / "junit.xml").iter("property")
        page = (out / name / "index.html").read_text()

        assert sum(exercise["points"] for exercise in results["exercises"]) == points
        assert sum(test["extra"]["points"] for test in told["tests"]) == gradescope["score"] == points
        assert sum(int(one.get("value", "")) for one in cases if one.get("name") == "points") == points
        assert f"{points} of 20 points" in page
        assert results["workspace"] == name
        assert told["extra"]["cell"] == CELL
        assert (out / name / "card.txt").read_text().count("1.4") >= 1
        assert "<script" not in page
        assert "http" not in page.replace("http-equiv", "")


def the_teacher_sees_the_class(out: Path) -> None:
    """Who has how many points, what failed with which words, who is alike, what is to be looked at."""
    page = (out / "summary.html").read_text()

    assert "31 submissions" in page
    assert "right-copied" in page.partition("Nearly the same code")[2].partition("Everybody")[0]
    words = page.partition("by how many failed")[2]
    assert any(
        said in words for said in ("calls were in the model together", "create_app() returned None", "SyntaxError")
    )
    assert "kills-the-judge" in page.partition("To be looked at")[2].partition("by how many failed")[0]


def nothing_runs_and_nothing_lies_about(rows: dict[str, dict[str, str]], out: Path) -> None:
    """No process, no daemon of a cheat, no folder of work; only the grades."""
    assert runs_in(out) == []
    assert sorted(path.name for path in out.iterdir()) == sorted([*rows, "grades.csv", "summary.html"])


def a_third_run_has_nothing_to_judge(folder: Path, out: Path) -> None:
    """All of the grades are kept, and are the same."""
    before = (out / "grades.csv").read_bytes()
    _, quiet = graded(folder, out)

    assert sorted(quiet.fresh) == sorted(REFUSED)
    assert (out / "grades.csv").read_bytes() == before


def two_cannot_grade_into_one_folder(folder: Path, out: Path) -> None:
    """The second is told so at once."""
    with (
        jobs._alone(out),
        ThreadPoolExecutor(1) as executor,
        pytest.raises(jobs.Busy, match="another process is grading into"),
    ):
        jobs.grade_class(find(folder), PLAN, out, executor, Quiet())


@pytest.mark.exhaustive
@pytest.mark.cost(10)
def test_without_a_wall_nothing_is_left_either(tmp_path: Path) -> None:
    """The plain cell ends what was started in it, finds no more points, and says that it is plain."""
    names = ["forks", "kills-the-judge", "leaves-a-daemon"]
    lay(tmp_path / "all")
    for name in names:
        shutil.copytree(tmp_path / "all" / name, tmp_path / "class" / name)
    grades, _ = graded(tmp_path / "class", tmp_path / "grades", Plan((1,), "plain", seconds=150))

    assert [(grade.submission.name, grade.points, grade.cell) for grade in grades] == [(n, 0, "plain") for n in names]
    assert runs_in(tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "grades").iterdir()) == sorted(
        ["grades.csv", "summary.html", *names]
    )
