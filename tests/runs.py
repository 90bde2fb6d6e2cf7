"""Runs of checkpoints, as a learner's: the same pytest on a workspace, forked from a process that has the imports done.

Imports are two thirds of a short run, and there are more than a hundred of them. One run at a time in a process:
`Process.start()` polls all its other children.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from checks.harness.machine import FairClock, load_in_words
from tests.waiting import INCONCLUSIVE, in_time

SECONDS = 180
"""How long a run may take on an idle machine; on a busy one it is given longer."""
LIVE_SECONDS = 900
"""The same for a run that builds an image."""
TURN = 0.2
"""Seconds between two looks at how busy the machine is."""
NOWHERE = "unix:///nowhere"
"""Where no Docker engine answers: a verdict must not hang on whether this machine has one, and builds take long."""

WAYS = ["fork", pytest.param("spawn", marks=pytest.mark.exhaustive)]
"""How checkpoints are kept apart. Where there is a fork nobody takes the other way, which costs ten times as much."""

WARM: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
WARM.set_forkserver_preload(["tests.warm"])


@dataclass(frozen=True)
class Judged:
    """What a run of checkpoints left: exit code, the card, and the results; and whether the machine was busy."""

    exit_code: int
    card: str
    results: dict[str, Any]
    busy: bool

    @property
    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """The checkpoints' results by id."""
        return {c["id"]: c for exercise in self.results["exercises"] for c in exercise["checkpoints"]}

    @property
    def verdicts(self) -> dict[str, str]:
        """The checkpoints' verdicts by id."""
        return {name: c["verdict"] for name, c in self.checkpoints.items()}

    def assert_verdicts(self, expected: Mapping[str, str | Container[str]]) -> None:
        """The verdicts by id are these, or among these. Where a busy machine left none, the test is skipped."""
        unsure = [name for name, verdict in self.verdicts.items() if verdict == "inconclusive"] if self.busy else []
        spared = {*unsure, *(name for name, verdict in self.verdicts.items() if unsure and verdict == "locked")}
        wrong = {
            name: verdict
            for name, verdict in self.verdicts.items()
            if name not in spared and verdict not in ([one] if isinstance(one := expected[name], str) else one)
        }

        assert list(expected) == list(self.verdicts)
        assert wrong == {}, self.card
        if unsure:
            pytest.skip(f"{INCONCLUSIVE}: {', '.join(unsure)} ({load_in_words()})")


def judge(folder: Path, workspace: Path | None, *arguments: str, engine: bool = False, shared: bool = True) -> Judged:
    """`pytest --workspace DIR ARGUMENTS`; `folder` is for what it leaves. With `engine` it may use this machine's.

    Its cells come from a zygote that all runs share, which saves each of them a second of imports; with `shared=False`
    from one of its own, as a learner's do: where a test is about that, or about what outlives a checkpoint.
    """
    results = folder / "results.json"
    options = ["-p", "no:cacheprovider", f"--results={results}", *([f"--workspace={workspace}"] if workspace else [])]
    host, limit = (os.environ.get("DOCKER_HOST", ""), LIVE_SECONDS) if engine else (NOWHERE, SECONDS)
    clock = FairClock()
    code, card = run_pytest(ROOT, [*options, *arguments], folder / "output", host, limit, clock, shared=shared)
    assert results.exists(), card
    return Judged(code, card, json.loads(results.read_text()), clock.busy)


def grade(folder: Path, exercise: int, checkpoints: tuple[str, ...], cell: str, number: int) -> Judged:
    """The workspace in that folder, graded in such a cell as one of a class is."""
    from checks.harness.classroom import grading  # late: most tests grade nothing
    from checks.harness.classroom.submissions import Submission

    if cell == "uid":
        open_above(folder)
    clock, plan = FairClock(), grading.Plan((exercise,), cell, SECONDS, only=checkpoints)
    graded = grading.grade(Submission("workspace", folder / "workspace", "folder"), plan, folder / "cell", number)
    clock.seconds()
    results = dataclasses.asdict(graded.run)
    card = graded.problem + "".join(f"\n{c.id} {c.verdict}: {c.seen}" for c in graded.run.checkpoints)
    return Judged(0 if graded.run.all_passed else 1, card, results, clock.busy)


def open_above(folder: Path) -> None:
    """Let other users through to a folder: pytest's own are closed to them."""
    for one in (folder, *folder.parents):
        if one.stat().st_uid == os.getuid() and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o011)


def run_pytest(
    folder: Path,
    arguments: Sequence[str],
    output: Path,
    docker_host: str = NOWHERE,
    limit: float = SECONDS,
    clock: FairClock | None = None,
    *,
    shared: bool = False,
) -> tuple[int, str]:
    """Run pytest in that folder: its exit code, and what it printed, which goes to the file `output`."""
    clock = clock or FairClock()
    output.touch()
    # Plugins that are imported already cannot be rewritten.
    options = ["-Wignore:Module already imported", *arguments]
    environment = os.environ | {"DOCKER_HOST": docker_host}  # the server was started in that of some other test
    process = WARM.Process(target=_pytest, args=(folder, options, output, environment, shared))
    process.start()
    while not wait([process.sentinel], TURN):
        if clock.seconds() > limit:
            process.kill()
            pytest.fail(f"pytest did not end {in_time(limit)}\n{output.read_text(errors='replace')}")
    process.join()
    return process.exitcode or 0, output.read_text(errors="replace")


def _pytest(folder: Path, arguments: list[str], output: Path, environment: dict[str, str], shared: bool) -> None:
    """Run pytest in this process, which is there for nothing else."""
    os.environ.clear()
    os.environ.update(environment)
    with output.open("w") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    os.chdir(folder)
    gc.freeze()  # pytest collects garbage at its end, and all that was imported before is none
    plugins: list[object] = []
    if shared and (warm := sys.modules.get("tests.warm")):  # without a fork there is no process to share one
        plugins.append(warm.SharedZygote())
    sys.exit(pytest.main(arguments, plugins))
