"""How the time of a class grows with the number of submissions, and what a verdict costs.

uv run pytest -s tests/benchmarks/bench_class.py
"""

from __future__ import annotations

import csv
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from checks.harness import ROOT
from checks.harness.walls.choice import cells

SIZES = (10, 30, 100, 300)
JOBS = 4
CHECKPOINT = "1.8"
"""One that neither waits nor measures: what is left is what a submission costs besides its checkpoints."""
WRONG = "    return requests * seconds\n"


class Graded(NamedTuple):
    """A class that was graded: wall seconds and CPU seconds of all its processes."""

    submissions: int
    seconds: float
    cpu: float

    def __str__(self) -> str:
        """As a line of the report."""
        rate, cost = 60 * self.submissions / self.seconds, self.cpu / self.submissions
        return f"{self.submissions:4} submissions: {rate:5.1f}/min, {60 / cost:5.1f} verdicts a core-minute"


def write_class(folder: Path, size: int) -> None:
    """Submissions of three kinds: solved, wrong and untouched. Each has a line of its own, so that none is another."""
    for number in range(size):
        lab = shutil.copytree(ROOT / "lab", folder / f"s{number:03}" / "lab", ignore=shutil.ignore_patterns("__pyc*"))
        path = lab / "predictions.py"
        source = (ROOT / ("solutions" if number % 3 < 2 else ".") / "lab" / "predictions.py").read_text()
        if number % 3 == 1:
            head, _, tail = source.partition("    return math.ceil(requests / together[kind]) * seconds\n")
            source = head + WRONG + tail
        path.write_text(f"{source}\n# {number}\n")


def grade(folder: Path, out: Path, cell: str) -> float:
    """Grade it with the command; the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["lab", "grade", str(folder), "--out", str(out), "--jobs", str(JOBS), "--cell", cell]
    subprocess.run([*command, "--checkpoint", CHECKPOINT], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_large_class_costs_no_more_for_each(tmp_path: Path) -> None:
    """Every grade is what its folder deserves, and 300 take at most 1.5 times as long for each as 10."""
    cell = next(cell.name for cell in cells() if cell.available)
    found: list[Graded] = []
    for size in SIZES:
        folder, out = tmp_path / f"class{size}", tmp_path / f"grades{size}"
        write_class(folder, size)
        started = time.perf_counter()
        cpu = grade(folder, out, cell)
        found.append(Graded(size, time.perf_counter() - started, cpu))
        print(f"\n{cell} cell, {JOBS} jobs, {found[-1]}", end="")
        rows = csv.DictReader((out / "grades.csv").read_text().splitlines())
        verdicts = [row[f"{CHECKPOINT} verdict"] for row in rows]
        assert verdicts == [("passed", "failed", "not_started")[number % 3] for number in range(size)]
    each = [one.seconds / one.submissions for one in found]
    print(f"\nseconds for each, against those of {SIZES[0]}: {', '.join(f'{one / each[0]:.2f}' for one in each)}")

    assert each[-1] <= 1.5 * each[0]
