"""The guide's state: what tabs are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab_guide import watching
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
