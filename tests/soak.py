"""Runs an exercise's solution again and again, with busy processes beside it, and counts the verdicts.

    uv run python tests/soak.py --exercise 1 --runs 100 --busy 0 4 16

A right answer must pass on a busy machine, or be inconclusive; one *failed* is a false verdict. Exit code 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from checks.harness import ROOT

SPIN = "while True: pass"


def main() -> int:
    """Read the arguments, run, and print a row for each number of busy processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exercise", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 4, 16])
    parser.add_argument("--keep", type=Path, help="a folder for the results of every run that was not all passed")
    chosen = parser.parse_args()
    failed = False
    console = Console()
    for busy in chosen.busy:
        verdicts: Counter[str] = Counter()
        seconds: list[float] = []
        with spinning(busy), Progress(console=console, transient=True) as progress:
            for number in progress.track(range(chosen.runs), description=f"{busy} busy"):
                counted, took = run(chosen.exercise, chosen.keep and chosen.keep / f"busy{busy}-run{number}.json")
                verdicts += counted
                seconds.append(took)
        failed = failed or bool(set(verdicts) - {"passed", "inconclusive", "locked"})
        console.print(
            f"{busy:>3} busy processes, {chosen.runs} runs: {dict(verdicts)}; seconds a run: "
            f"median {statistics.median(seconds):.1f}, least {min(seconds):.1f}, most {max(seconds):.1f}",
            highlight=False,
            soft_wrap=True,
        )
    return int(failed)


def run(exercise: int, keep: Path | None) -> tuple[Counter[str], float]:
    """One run of the solution: how often each verdict came, and the seconds of the whole process."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.json")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"checks/test_ex{exercise}.py"]
        subprocess.run(
            [*command, "--workspace=solutions", f"--results={results}"], cwd=ROOT, capture_output=True, timeout=900
        )
        told = json.loads(results.read_text())
        verdicts = Counter(c["verdict"] for e in told["exercises"] for c in e["checkpoints"])
        if keep and set(verdicts) != {"passed"}:
            keep.parent.mkdir(parents=True, exist_ok=True)
            keep.write_text(results.read_text())
    return verdicts, time.monotonic() - started


@contextlib.contextmanager
def spinning(processes: int) -> Iterator[None]:
    """So many processes that want a core for themselves."""
    started = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
