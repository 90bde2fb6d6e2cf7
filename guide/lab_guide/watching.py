"""What a learner saves, and what a run writes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from checks.harness.source_lines import LEARNERS
from checks.harness.workspace import NOT_LEARNERS

QUIET_MS = 60
"""A save counts once nothing has changed for so long: an editor may write a file in several steps."""
RESULTS_MS = 20
"""The same for results, which are written in one step."""


class Learners(DefaultFilter):
    """Files that belong to the learner."""

    def __init__(self, files: Path) -> None:
        self._files = files
        super().__init__()

    def __call__(self, change: Change, path: str) -> bool:
        """Whether a change is one of the learner's work."""
        inside = Path(path).relative_to(self._files)
        beside = len(inside.parts) == 1 and not inside.name.startswith(".") and inside.name not in NOT_LEARNERS
        return super().__call__(change, path) and (inside.parts[0] in LEARNERS or beside)


async def saves(files: Path) -> AsyncIterator[set[str]]:
    """The files whose content has changed, by their names below `files`, at every save."""
    allowed, known = Learners(files), dict[str, bytes]()
    for path in _all(files, allowed):
        known[path.relative_to(files).as_posix()] = _content(path)
    # The folder itself is watched without what is below it: there may be an environment with 20,000 files.
    while True:
        deep = [files / name for name in LEARNERS if (files / name).is_dir()]
        async for changes in _both(files, deep, allowed):
            names = {Path(path).relative_to(files).as_posix() for _, path in changes}
            names = {name for name in names if not (files / name).is_dir()}
            changed = {name for name in names if known.get(name, b"") != _content(files / name)}
            known |= {name: _content(files / name) for name in changed}
            if changed:
                yield changed
            if deep != [files / name for name in LEARNERS if (files / name).is_dir()]:
                break  # a folder has come or gone: watch anew


async def _both(files: Path, deep: list[Path], allowed: Learners) -> AsyncIterator[set[tuple[Change, str]]]:
    """Changes right in the folder, and anywhere below those of its folders that are the learner's."""
    queue: asyncio.Queue[set[tuple[Change, str]]] = asyncio.Queue()

    async def watch(*paths: Path, recursive: bool) -> None:
        async for changes in awatch(*paths, watch_filter=allowed, step=QUIET_MS, recursive=recursive):
            queue.put_nowait(changes)

    tasks = [asyncio.create_task(watch(files, recursive=False))]
    if deep:
        tasks.append(asyncio.create_task(watch(*deep, recursive=True)))
    try:
        while True:
            yield await queue.get()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def written(path: Path) -> AsyncIterator[None]:
    """Something at every time that a file is written, or gone."""
    async for _ in awatch(
        path.parent, watch_filter=lambda _, name: name == str(path), step=RESULTS_MS, recursive=False
    ):
        yield


def _all(files: Path, allowed: Learners) -> list[Path]:
    tops = [path for path in files.iterdir() if allowed(Change.added, str(path))]
    below = [path for top in tops if top.is_dir() for path in top.rglob("*")]
    return [path for path in [*tops, *below] if path.is_file() and allowed(Change.added, str(path))]


def _content(path: Path) -> bytes:
    """What stands for the content of a file; empty for one that is gone."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""
