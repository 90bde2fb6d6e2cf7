"""`lab reset`: stubs from git, and the learner's version kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from checks.harness import ROOT
from lab_guide.commands.reset import put_back
from lab_guide.stubs import CannotReset
from tests.exercises import EXERCISES
from tests.waiting import finished

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

LEARNERS = ("lab", "loadtests", "Dockerfile", "compose.yaml", ".dockerignore")
CHECKPOINTS = [c.id for exercise in EXERCISES.values() for c in exercise.checkpoints]


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody, whatever the settings of this machine."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    done = finished(["git", *who, *arguments], cwd=folder)
    assert done.returncode == 0, done.stderr


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "work")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the lab, in which everything is solved and committed."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copytree(ROOT / "lessons", folder / "lessons")
    for name in LEARNERS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / ".gitignore").write_text(".lab/\n__pycache__/\n")
    git(folder, "init", "-q")
    commit(folder)
    shutil.copytree(ROOT / "solutions", folder, dirs_exist_ok=True)
    commit(folder)
    return folder


def test_the_stub_is_back_and_the_rest_stays(checkout: Path) -> None:
    """1.4 is the step of `predict` and its body: both are stubs again, and nothing else has changed."""
    solved = (checkout / "lab/service.py").read_text()

    said = put_back(checkout, "1.4")

    now = (checkout / "lab/service.py").read_text()
    assert 'raise NotImplementedError("1.2: POST /predict")' in now
    assert "TODO(1.2)" in now
    assert 1 == now.count("NotImplementedError")
    assert said[0].startswith(
        "lab/service.py: PredictRequest.features, predict as it was at the start; your version is "
    )
    assert solved == (checkout / said[0].rpartition(" ")[2]).read_text()


def test_every_step_put_back_gives_the_stubs(checkout: Path) -> None:
    """After all checkpoints are reset no part of the solution is left but what stands between the stubs."""
    for name in CHECKPOINTS:
        put_back(checkout, name)

    for file in (ROOT / "lab").glob("*.py"):
        stubs = file.read_text().count("raise NotImplementedError")
        assert stubs == (checkout / "lab" / file.name).read_text().count("raise NotImplementedError"), file.name
    for name in ("Dockerfile", "compose.yaml"):
        assert (ROOT / name).read_text() == (checkout / name).read_text()


def test_a_whole_file_is_put_back(checkout: Path) -> None:
    """A file by its name, whatever became of it: one that Python cannot read, and one that is gone."""
    (checkout / "lab/model.py").write_text("def (")
    (checkout / "lab/timing.py").unlink()

    with pytest.raises(CannotReset, match=r"Python cannot read lab/model\.py"):
        put_back(checkout, "1.3")
    assert "your version is .lab" in put_back(checkout, "lab/model.py")[0]
    assert ["lab/timing.py: the whole file as it was at the start"] == put_back(checkout, "lab/timing.py")
    assert (ROOT / "lab/model.py").read_text() == (checkout / "lab/model.py").read_text()
    assert (ROOT / "lab/timing.py").read_text() == (checkout / "lab/timing.py").read_text()


def test_a_learner_who_commits_half_of_a_step_gets_the_whole_stub(checkout: Path) -> None:
    """Of all commits the one with the most stubs counts, not the newest that has one."""
    put_back(checkout, "1.3")
    half = (checkout / "lab/model.py").read_text()
    first = 'raise NotImplementedError("1.3: SimulatedModel.predict_blocking")'
    (checkout / "lab/model.py").write_text(half.replace(first, "return 1.0"))
    commit(checkout)

    put_back(checkout, "1.3")

    assert half == (checkout / "lab/model.py").read_text()


def test_what_cannot_be_put_back_changes_nothing(checkout: Path) -> None:
    """An unknown checkpoint, a function that is gone, and a folder without git are each one sentence."""
    without = (checkout / "lab/predictions.py").read_text().replace("def burst_seconds", "def other")
    (checkout / "lab/predictions.py").write_text(without)

    with pytest.raises(CannotReset, match=r"1\.99 is neither a checkpoint nor one of"):
        put_back(checkout, "1.99")
    with pytest.raises(CannotReset, match=r"no `burst_seconds` any more: `uv run lab reset lab/predictions\.py`"):
        put_back(checkout, "1.8")
    shutil.rmtree(checkout / ".git")
    with pytest.raises(CannotReset, match="git history"):
        put_back(checkout, "1.4")
    assert without == (checkout / "lab/predictions.py").read_text()
    assert not (checkout / ".lab").exists()
