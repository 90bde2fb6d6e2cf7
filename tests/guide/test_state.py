"""The guide's state: what tabs are told."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from checks.harness.report.results import Checkpoint, Exercise, Run, write
from lab_guide import history, watching
from lab_guide.place import find_place
from lab_guide.standing import standing
from lab_guide.state import BEHIND, Guide, Selection
from tests.waiting import SECONDS


async def test_a_tab_that_is_too_far_behind_is_let_go(work: Path) -> None:
    """Its stream ends, so that the page connects again and gets the whole state; one that keeps up goes on."""
    guide = Guide(find_place(work))
    slow, quick = guide.events(), guide.events()
    first = [(await anext(stream))[0] for stream in (slow, quick)]
    got = []
    for n in range(BEHIND + 1):
        guide.tell("note", {"n": n})
        got.append((await anext(quick))[1]["n"])
    seen = [data["n"] async for _, data in slow]

    assert ["state", "state"] == first
    assert list(range(BEHIND + 1)) == got
    assert list(range(1, BEHIND)) == seen, "what it has missed it is not sent in part: it ends"


async def test_what_stops_the_watching_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the watching ends no tab: it is a note on the page, and stays for those that open later."""

    async def broken(_: Path) -> AsyncIterator[set[str]]:
        raise OSError("no watches left")
        yield set()

    monkeypatch.setattr(watching, "saves", broken)
    guide = Guide(find_place(work))
    stream = guide.events()
    await anext(stream)
    await asyncio.wait_for(guide.live(), SECONDS)

    assert "no watches left" in (await anext(stream))[1]["note"]
    assert "no watches left" in guide.state()["note"]


def test_the_command_of_a_checkpoint_names_its_exercise(tmp_path: Path) -> None:
    """What the page offers to copy runs that checkpoint and no other test; a folder's name may have a space."""
    work = tmp_path / "my work"
    work.mkdir()

    assert Guide(find_place()).state()["command"].startswith("uv run pytest checks/test_ex0.py")
    assert f"--workspace '{work}'" in Guide(find_place(work)).state()["command"]


def judged(work: Path, checkpoint: str, *, at: int = 0, hash_: str = "0" * 12, verdict: Any = "passed") -> None:
    """What a run of one checkpoint leaves, `at` so many seconds."""
    number = int(checkpoint.partition(".")[0])
    one = Checkpoint(checkpoint, "a title", 2, verdict=verdict, points=2 * (verdict == "passed"))
    started = (datetime(2026, 1, 1, 10, tzinfo=UTC) + timedelta(seconds=at)).isoformat()
    write(Run("it", hash_, 1, started, {}, [Exercise(number, "An exercise", "", [one])]), work / ".lab/last-run.json")


def test_a_run_of_the_command_line_is_kept_when_the_page_starts(work: Path) -> None:
    """The next run overwrites its file, and its points are still there at the next start."""
    judged(work, "1.1")
    Guide(find_place(work))
    judged(work, "3.4", at=60)
    guide = Guide(find_place(work))

    assert {"1.1", "3.4"} == guide.newest.results.keys()


def test_the_newest_verdict_of_a_checkpoint_is_never_forgotten(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more runs than are kept those go that were judged again since, and no others."""
    monkeypatch.setattr(history, "KEPT", 3)
    for at, name in enumerate(["1.1", "1.2", "1.2", "1.3", "3.4", "3.4", "3.4", "3.4"]):
        judged(work, name, at=at)
        Guide(find_place(work))._take()

    assert ["1.1", "1.2", "1.3", "3.4"] == sorted(Guide(find_place(work)).newest.results)
    assert 6 == len(history.names(work / ".lab")), "1.1, the second of 1.2, 1.3 and the last three"


LOAD_TEST = "loadtests/locustfile.py"


def solve(work: Path, file: str) -> str:
    """Put the solution of a file there; give its text."""
    shutil.copy(ROOT / "solutions" / file, work / file)
    return (work / file).read_text()


def test_a_save_runs_the_part_that_was_changed(work: Path) -> None:
    """`StepLoad.tick` is 3.4's: it runs though it has passed before, and beside another one of the exercise."""
    text = solve(work, LOAD_TEST)
    guide = Guide(find_place(work))
    saved = []
    for chosen, change in (("1.1", "x = 1"), ("1.1", "y = 1"), ("3.1", "z = 1"), ("3.4", "a = 1")):
        guide.choose(chosen)
        begins = text.index("\n", text.index("def tick")) + 1
        (work / LOAD_TEST).write_text(f"{text[:begins]}        {change}\n{text[begins:]}")
        saved += guide.selections({LOAD_TEST})

    assert [Selection(3, only) for only in (("3.4",), ("3.4",), ("3.1", "3.4"), ("3.4",))] == saved


async def test_what_is_in_hand_follows_a_save_in_another_exercise(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save of the load test while 1.1 is chosen chooses the checkpoint of exercise 3 that it runs."""

    async def once(_: Path) -> AsyncIterator[set[str]]:
        yield {LOAD_TEST}

    monkeypatch.setattr(watching, "saves", once)
    guide = Guide(find_place(work))
    await guide._watch_saves()

    assert "3.1" == guide.chosen
    assert [Selection(3, ("3.1",))] == guide._wanted


def test_what_is_in_hand_follows_a_run_of_a_terminal(work: Path) -> None:
    """A run that somebody begins there is looked at, once: after it another checkpoint can be chosen."""
    guide = Guide(find_place(work))
    judged(work, "3.4", verdict="failed")
    guide._take()
    followed = guide.chosen
    guide.choose("1.2")
    judged(work, "3.4", verdict="passed")  # the same run, a moment later
    guide._take()

    assert ("3.4", "1.2") == (followed, guide.chosen)
    assert "3.1" == Guide(find_place(work)).chosen, "a start begins with the exercise of the last run"


def test_a_stub_that_was_put_back_is_open_again(work: Path) -> None:
    """What had passed counts no more once its part is a stub again; a run after the save counts."""
    text = solve(work, LOAD_TEST)
    judged(work, "3.4")
    guide = Guide(find_place(work))
    before = guide.results["3.4"]["points"]
    guide.choose("3.3")
    after_3_3 = guide.next_open()
    (work / LOAD_TEST).write_text(
        text.replace("def tick", 'def tick_(self): raise NotImplementedError("3.4: x")\n\n    def tick', 1)
    )
    again = guide.results["3.4"]
    exported = standing(work / ".lab/last-run.json")

    assert (2, "3.5") == (before, after_3_3)
    assert ("not_started", 0) == (again["verdict"], again["points"])
    assert [("not_started", 0)] == [(c.verdict, c.points) for c in exported.checkpoints], "as on the page"
    assert "3.4" == guide.next_open()


def test_a_run_of_another_workspace_is_not_the_learners(tmp_path: Path, work: Path) -> None:
    """`--workspace` of a terminal writes beside the learner's own results: the page does not take it for them."""
    guide = Guide(find_place(work))
    passed = Checkpoint("1.1", "a title", 2, verdict="passed", points=2)
    for folder in (tmp_path / "solutions", work):
        exercise = Exercise(1, "An exercise", "", [passed])
        run = Run("it", "0" * 12, 1, "2026-01-01T10:00:00+00:00", {}, [exercise], options=f" --workspace {folder}")
        write(run, work / ".lab/last-run.json")
        guide._take()
        assert (folder == work) == ("1.1" in guide.results)
