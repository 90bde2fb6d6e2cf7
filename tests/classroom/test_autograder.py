"""The zip for other graders: what is in it, and both of them run it as they would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from checks.harness.report.classroom50 import classroom50
from checks.harness.report.results import Run
from checks.harness.walls import docker
from tests.guide.test_commands import lab
from tests.waiting import finished

RUNNER = {
    "CLASSROOM": "systems", "ASSIGNMENT": "latency", "SUBMISSION_TAG": "submit/2026-09-01T10-00-00Z-abc1234",
    "COMMIT_URL": "https://example.org/commit/abc", "RELEASE_URL": "https://example.org/releases/abc",
}  # fmt: skip
"""What the runner of Classroom 50 says in its environment."""
IMAGE = "python:3.12-slim"


def unpacked(folder: Path, *options: str) -> Path:
    """`lab autograder-zip`, unpacked as those graders do it."""
    path = folder / "autograder.zip"
    done = lab("autograder-zip", path, *options)
    assert done.returncode == 0, done.stderr
    subprocess.run(["unzip", "-q", path, "-d", folder / "source"], check=True)
    return folder / "source"


@pytest.mark.exhaustive
def test_the_zip_holds_the_lab_and_no_answers(tmp_path: Path) -> None:
    """The two scripts are at its top and can be started; no solutions, no tests, nothing that was compiled."""
    source = unpacked(tmp_path, "--exercise", "2", "--minutes", "7")
    names = zipfile.ZipFile(tmp_path / "autograder.zip").namelist()

    assert {"setup.sh", "run_autograder", "autograder.py", "uv.lock", "checks/test_ex1.py", "lab/service.py"} <= {
        *names
    }
    assert not [name for name in names if name.startswith(("solutions", "tests", ".")) and name != ".dockerignore"]
    assert not [name for name in names if name.endswith(".pyc")]
    assert os.access(source / "run_autograder", os.X_OK)
    assert "--cell uid --exercise=2 --minutes=7\n" in (source / "run_autograder").read_text()
    assert 'OPTIONS = "--exercise=2 --minutes=7"' in (source / "autograder.py").read_text()
    for script in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", source / script], check=True)
    first = (tmp_path / "autograder.zip").read_bytes()
    lab("autograder-zip", tmp_path / "autograder.zip", "--exercise", "2", "--minutes", "7")
    assert (tmp_path / "autograder.zip").read_bytes() == first


def test_classroom50_gets_a_test_for_each_checkpoint(tmp_path: Path) -> None:
    """The fields of classroom50/result/v1; who submitted what is the runner's word, and without it there is nothing."""
    run = Run("ada", "abc", 7, "2026-09-01T10:00:30+00:00", {}, [])
    told = classroom50(run, RUNNER | {"SUBMITTED_AT": "2026-09-01T12:00:00+02:00"})

    assert told["schema"] == "classroom50/result/v1"
    assert (told["classroom"], told["assignment"]) == ("systems", "latency")
    assert told["datetime"] == "2026-09-01T10:00:00Z"
    assert told["review"] == RUNNER["COMMIT_URL"]
    assert (told["score"], told["max-score"], told["tests"]) == (0, 0, [])
    with pytest.raises(ValueError, match="CLASSROOM, RELEASE_URL is not set"):
        classroom50(run, {name: value for name, value in RUNNER.items() if name not in ("CLASSROOM", "RELEASE_URL")})


@pytest.mark.exhaustive
@pytest.mark.cost(30)
def test_classroom50_runs_it(tmp_path: Path) -> None:
    """Its entrypoint runs in a learner's checkout, whose own `checks/` nobody looks at."""
    source, checkout = unpacked(tmp_path, "--exercise", "1"), tmp_path / "checkout"
    shutil.copytree(ROOT / "solutions", checkout, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "checks").mkdir()
    (checkout / "checks" / "test_ex1.py").write_text("def test_all(): pass\n")
    author = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "done"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "runner")], check=True)
    spared = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "UV_PROJECT"))}

    done = finished([str(tmp_path / "runner/bin/python"), str(source / "autograder.py")], 600, cwd=checkout,
                    env=spared | RUNNER)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((checkout / "result.json").read_text())
    assert (told["score"], told["max-score"]) == (20, 20), told
    assert [test["test-name"][:3] for test in told["tests"]] == [f"1.{number}" for number in range(1, 10)]
    assert {test["passed"] for test in told["tests"]} == {True}


@pytest.fixture
def autograder(tmp_path: Path) -> Iterator[str]:
    """An image that was built from the zip as Gradescope builds it; it is removed at the end."""
    if why := docker.missing():
        pytest.skip(f"Gradescope's container cannot be tried: {why}")
    if finished(["docker", "image", "inspect", IMAGE], env=dict(os.environ)).returncode:
        pytest.skip(f"Gradescope's container cannot be tried: the engine has no {IMAGE}")
    unpacked(tmp_path, "--exercise", "1")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nCOPY source /autograder/source\n"
        "RUN mkdir -p /autograder/submission /autograder/results"
        " && cp /autograder/source/run_autograder /autograder/run_autograder\n"
        "RUN bash /autograder/source/setup.sh\nWORKDIR /autograder\n"
    )
    (tmp_path / ".dockerignore").write_text("autograder.zip\n")
    name = f"lab-autograder-{os.getpid()}"
    command = ["docker", "build", "--network=host", "--tag", name, "."]
    built = finished(command, 1200, cwd=tmp_path, env=os.environ | {"DOCKER_BUILDKIT": "0"})
    try:
        assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
        yield name
    finally:
        finished(["docker", "image", "rm", "--force", name], env=dict(os.environ))


@pytest.mark.exhaustive
@pytest.mark.cost(60)
def test_gradescope_runs_it(autograder: str, tmp_path: Path) -> None:
    """In a container without a capability to make namespaces: a right one, a stub, and one that looks around."""
    spared = shutil.ignore_patterns("__pycache__")
    right = shutil.copytree(ROOT / "solutions", tmp_path / "right", ignore=spared)
    stub = tmp_path / "stub"
    shutil.copytree(ROOT / "lab", stub / "lab", ignore=spared)
    nosy = shutil.copytree(ROOT / "solutions", tmp_path / "nosy", ignore=spared)
    service = nosy / "lab" / "service.py"
    service.write_text(
        "import os, pathlib\n"
        "for name in ('/autograder/submission_metadata.json', '/autograder/submission/lab/service.py'):\n"
        "    assert not os.access(name, os.R_OK), name\n"
        "assert not os.access('/autograder/results', os.W_OK)\n"
        "assert os.getuid() != 0\n" + service.read_text()
    )
    broken = tmp_path / "broken"
    (broken / "src").mkdir(parents=True)

    for submission, score in ((right, 20), (stub, 0), (nosy, 20), (broken, 0)):
        told = graded_by_gradescope(autograder, submission, tmp_path / f"results-{submission.name}")
        assert told["score"] == score, told
        assert len(told["tests"]) == 9
        assert "in a uid cell" in told["output"]
    assert "it holds no folder `lab`" in told["output"]


def graded_by_gradescope(image: str, submission: Path, results: Path) -> dict[str, Any]:
    """What its harness reads after it has run /autograder/run_autograder as root, in a container of its own."""
    results.mkdir()
    metadata = results.parent / "submission_metadata.json"
    metadata.write_text('{"users": [{"email": "ada@example.org"}]}')
    mounts = [(submission, "submission"), (results, "results"), (metadata, "submission_metadata.json")]
    binds = [part for path, name in mounts for part in ("--volume", f"{path}:/autograder/{name}")]
    command = ["docker", "run", "--rm", "--network=host", *binds, image, "/autograder/run_autograder"]
    done = finished(command, 600, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads((results / "results.json").read_text())
    return told
