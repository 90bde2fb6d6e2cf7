"""The guide's state: what tabs are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checks.harness.report.results import Checkpoint, Exercise, Run, write
from lab_guide import history, watching
from lab_guide.place import find_place
from lab_guide.state import BEHIND, Guide
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
