"""Whose files are judged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.exceptions import ResponseValidationError

from checks.harness import ROOT
from checks.harness import workspace as workspace_module
from checks.harness.cell.exchange import Exchange
from checks.harness.errors import Failure, LearnerError
from checks.harness.source_lines import GIVEN
from checks.harness.workspace import LearnerModules, open_workspace


@pytest.fixture
def learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one learner's file; imports of `lab` in this process are undone afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "learner" / "lab").mkdir(parents=True)
    (tmp_path / "learner" / "lab" / "thing.py").write_text("def call():\n    raise ValueError('no')\n")
    yield tmp_path / "learner"
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]


def test_what_is_judged_does_not_change_under_way(learner: Path, tmp_path: Path) -> None:
    """An edit after the start is not what the hash stands for, and not what runs."""
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")
    before = workspace.hash
    (learner / "lab" / "thing.py").write_text("1 / 0\n")

    assert LearnerModules(workspace.load).thing.call
    assert open_workspace(ROOT, learner, tmp_path / "other").hash != before


def test_given_files_come_from_the_lab(learner: Path, tmp_path: Path) -> None:
    """What a learner put in the place of a given file is not what runs."""
    (learner / "lab" / "settings.py").write_text("THREAD_POOL_SIZE = 4000\n")
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")

    for given in GIVEN:
        assert (workspace.tree / given).read_bytes() == (ROOT / given).read_bytes()
    assert (workspace.tree / "lab" / "thing.py").exists()


@pytest.mark.parametrize("instead", ["lab/records/__init__.py", "lab/records.so", "lab/settings.cpython-311.pyc"])
def test_nothing_takes_the_place_of_a_given_module(learner: Path, tmp_path: Path, instead: str) -> None:
    """Python prefers a package or compiled code to a file of the same name: a given file has no such rival."""
    (learner / instead).parent.mkdir(exist_ok=True)
    (learner / instead).write_text("raise SystemExit\n")
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")

    assert not (workspace.tree / instead).exists()


@pytest.mark.parametrize(
    "name",
    [
        "checks.py",
        "uvicorn.py",
        "json.py",
        "sitecustomize.py",
        "docker/__init__.py",
        "loadtests/locust.py",
        "uvloop.so",
    ],
)
def test_nothing_shadows_a_module(learner: Path, tmp_path: Path, name: str) -> None:
    """The workspace comes first where Python looks for modules: a file with the name of another module is refused."""
    (learner / name).parent.mkdir(exist_ok=True)
    (learner / name).write_text("")

    with pytest.raises(LearnerError, match=f"{name} takes the place of the module"):
        open_workspace(ROOT, learner, tmp_path / "tree")


def test_files_of_ones_own_are_welcome(learner: Path, tmp_path: Path) -> None:
    """Helpers beside the files of the lab are part of the workspace, also with the name of a module inside of `lab`."""
    for name in ("start.py", "lab/json.py", "lab/queue/__init__.py", "loadtests/users.py", "docker/start.sh"):
        (learner / name).parent.mkdir(exist_ok=True, parents=True)
        (learner / name).write_text("")
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")

    assert (workspace.tree / "loadtests" / "users.py").exists()


@pytest.mark.parametrize("link", ["lab", "lab/x.py"])
def test_no_link_leads_out_of_a_workspace(learner: Path, tmp_path: Path, link: str) -> None:
    """Neither the solutions nor a secret of the teacher's can be handed in by a link."""
    if link == "lab":
        (learner / "lab").rename(tmp_path / "elsewhere")
        (learner / "lab").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "secret").write_text("secret")
        (learner / link).symlink_to(tmp_path / "secret")

    with pytest.raises(LearnerError, match="is a link that leads out of the workspace"):
        open_workspace(ROOT, learner, tmp_path / "tree")


def test_a_workspace_has_a_size(learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files, or more bytes, than a person writes are refused before they are copied."""
    monkeypatch.setattr(workspace_module, "MOST_FILES", 1)
    (learner / "lab" / "more.py").write_text("")
    with pytest.raises(LearnerError, match="is one of more than 1 files"):
        open_workspace(ROOT, learner, tmp_path / "tree")

    monkeypatch.setattr(workspace_module, "MOST_FILES", 10)
    monkeypatch.setattr(workspace_module, "MOST_BYTES", 10)
    with pytest.raises(LearnerError, match="makes the workspace larger than"):
        open_workspace(ROOT, learner, tmp_path / "other")


def test_the_labs_own_stubs_do_not_fill_gaps(learner: Path, tmp_path: Path) -> None:
    """A file that the learner did not hand in is missing, and not somebody else's."""
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")

    with pytest.raises(LearnerError, match=r"there is no lab/service.py in workspace"):
        workspace.load("service")


def test_the_hash_stands_for_what_is_judged(learner: Path, tmp_path: Path) -> None:
    """It changes with any file, and not with the folder's name."""
    first = open_workspace(ROOT, learner, tmp_path / "a").hash
    same = open_workspace(ROOT, learner.rename(learner.with_name("renamed")), tmp_path / "b").hash
    (tmp_path / "renamed" / "lab" / "thing.py").write_text("changed = True\n")
    other = open_workspace(ROOT, tmp_path / "renamed", tmp_path / "c").hash

    assert first == same
    assert first != other


def test_a_learners_line_is_named(learner: Path, tmp_path: Path) -> None:
    """A line of a learner's file is named relative to the workspace, with its text; nobody else's line is."""
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")
    thing = LearnerModules(workspace.load).thing
    with pytest.raises(ValueError, match="no") as caught:
        thing.call()

    assert workspace.where_raised(caught.value.__traceback__) == "lab/thing.py:2 in call\n    raise ValueError('no')"
    assert workspace.where_defined(thing.call) == "lab/thing.py:1\n    def call():"
    assert workspace.where_defined(open_workspace) is None


async def test_a_middleware_is_not_blamed_for_what_fails_below_it(learner: Path, tmp_path: Path) -> None:
    """A line of theirs that FastAPI was called from says nothing; one that FastAPI called does."""
    (learner / "lab" / "passing.py").write_text(
        "class Passing:\n"
        "    def __init__(self, app):\n"
        "        self.app = app\n\n"
        "    async def __call__(self, *arguments):\n"
        "        await self.app(*arguments)\n\n"
        "async def unserialisable() -> None:\n"
        "    return object()\n\n"
        "async def crashing() -> None:\n"
        "    raise ValueError('no')\n"
    )
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")
    theirs = LearnerModules(workspace.load).passing
    app = FastAPI()
    app.add_middleware(theirs.Passing)
    app.add_api_route("/unserialisable", theirs.unserialisable, response_model=int)
    app.add_api_route("/crashing", theirs.crashing)

    async def where(path: str) -> str | None:
        with pytest.raises((ValueError, ResponseValidationError)) as caught:
            await Exchange("GET", path).run(app)
        return workspace.where_raised(caught.value.__traceback__)

    assert await where("/unserialisable") is None
    assert await where("/crashing") == "lab/passing.py:12 in crashing\n    raise ValueError('no')"


def test_of_a_recursion_the_line_that_goes_on_with_it_is_named(learner: Path, tmp_path: Path) -> None:
    """Where the stack ends is chance."""
    (learner / "lab/thing.py").write_text("def call(number):\n    int(number)\n    return 1 + call(number + 1)\n")
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")

    thing = LearnerModules(workspace.load).thing
    with pytest.raises(RecursionError) as caught:
        thing.call(0)

    assert "lab/thing.py:3 in call" in str(workspace.where_raised(caught.value.__traceback__))


def test_an_exception_that_was_kept_is_named_where_it_was_raised_again(learner: Path, tmp_path: Path) -> None:
    """Its traceback ends where it came from; the line that raised it again is further out."""
    kept = "def first():\n    int('no')\n\n\ndef again():\n    try:\n        first()\n    except ValueError as error:\n"
    (learner / "lab/thing.py").write_text(f"{kept}        kept = error\n    raise kept\n")
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")

    thing = LearnerModules(workspace.load).thing
    with pytest.raises(ValueError, match="no") as once:
        thing.first()
    with pytest.raises(ValueError, match="no") as again:
        thing.again()

    assert workspace.where_raised_again(once.value.__traceback__) is None
    assert "lab/thing.py:10 in again" in str(workspace.where_raised_again(again.value.__traceback__))
    assert "lab/thing.py:2 in first" in str(workspace.where_raised(again.value.__traceback__))


def test_an_import_that_hung_before_is_not_waited_for_again(learner: Path, tmp_path: Path) -> None:
    """What was said then is said again at once."""
    workspace = open_workspace(ROOT, learner, tmp_path / "tree")
    workspace.hung_imports["lab.thing"] = Failure("it hung", where="lab/thing.py:3")

    with pytest.raises(LearnerError, match="it hung") as raised:
        workspace.load("thing")
    assert "lab/thing.py:3" == raised.value.failure.where
