"""How long a learner waits between a save and the first verdict on the page.

uv run pytest -s tests/benchmarks/bench_page.py
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from checks.harness import ROOT
from tests.guide.opened import connected, events, lab
from tests.waiting import upper_bound

ROUNDS = 8
AT_MOST = 1.5
BETWEEN = 2.0
"""Seconds between a verdict and the next save: nobody types faster."""

Told = Generator[tuple[str, dict[str, Any]]]


@pytest.mark.parametrize(
    ("checkpoint", "runs", "file", "right", "wrong"),
    [
        ("4.8", 1, "lab/tuning.py", "return", "return None and"),
        ("1.4", 2, "lab/service.py", "await model.predict(body.features)", "model.predict_blocking(body.features)"),
    ],
    ids=["a function: 4.8", "a service in process: 1.4"],
)
def test_from_a_save_to_the_first_verdict(
    tmp_path: Path, checkpoint: str, runs: int, file: str, right: str, wrong: str
) -> None:
    """From the write of the file to the event with the verdict, over a real connection: medians over all saves.

    `runs` is how many runs a save starts: the checkpoint, and its exercise where that is quick.
    """
    work = tmp_path / "work"
    shutil.copytree(ROOT / "solutions", work, ignore=shutil.ignore_patterns("__pycache__"))
    solved = (work / file).read_text()
    took: dict[str, list[float]] = {"saved": [], "running": [], "verdict": []}
    with lab(work) as (_, address), connected(address) as client, closing(events(client)) as told:
        next(told)
        client.post("/choose", json={"checkpoint": checkpoint})
        for number in range(ROUNDS):
            time.sleep(BETWEEN)
            text = solved.replace(right, wrong) if number % 2 == 0 else solved
            saved = time.perf_counter()
            (work / file).write_text(text)
            for name in took:
                until(told, name, checkpoint)
                took[name].append(time.perf_counter() - saved)
            for _ in range(runs):
                until(told, "ended", checkpoint)
    medians = {name: statistics.median(times) for name, times in took.items()}
    print(f"\n{checkpoint}: " + ", ".join(f"{name} after {seconds:.2f} s" for name, seconds in medians.items()))
    print(f"verdicts from {min(took['verdict']):.2f} to {max(took['verdict']):.2f} s")

    with upper_bound():
        assert medians["verdict"] < AT_MOST


def until(told: Told, what: str, checkpoint: str) -> None:
    """Wait for an event of this name; `verdict` is the first one that has it."""
    for name, data in told:
        if name == what:
            return
        if what == "verdict" and name == "run":
            found = [c for e in data["exercises"] for c in e["checkpoints"] if c["id"] == checkpoint]
            if found and found[0]["verdict"] != "not_run":
                return
    raise AssertionError(f"the events ended before {what}")
