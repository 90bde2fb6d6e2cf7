"""What the tests of the guide share."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from checks.harness import ROOT
from lab_guide.app import create_app
from lab_guide.bench.kept import Record
from lab_guide.place import find_place
from lab_guide.state import Guide
from tests.waiting import SECONDS

PORT, TOKEN = 8460, "t" * 43
HOME = f"http://127.0.0.1:{PORT}"

LEARNERS = ("lab", "loadtests", "Dockerfile", "compose.yaml", ".dockerignore")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace with the stubs."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in LEARNERS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def solved(work: Path) -> Path:
    """A workspace in which everything is solved."""
    shutil.copytree(ROOT / "solutions", work, dirs_exist_ok=True)
    return work


@pytest.fixture
def guide(work: Path) -> Guide:
    """The guide of the workspace; nothing is watched."""
    return Guide(find_place(work))


@pytest.fixture
async def page(guide: Guide) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has opened the address."""
    transport = httpx.ASGITransport(create_app(guide, PORT, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url=HOME, headers={"Origin": HOME}) as client:
        await client.get("/", params={"token": TOKEN})
        yield client


async def to_the_end(guide: Guide) -> Record:
    """Wait for what is measured; give its record."""
    assert guide._measuring is not None
    await asyncio.wait_for(asyncio.shield(guide._measuring), SECONDS * 2)
    record = guide.bench.read(guide.bench.briefs()[-1]["name"])
    assert record is not None
    return record
