"""How long a learner waits for a verdict, beside what importing the libraries alone takes.

uv run pytest -s tests/benchmarks/bench_verdict.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

import pytest

from checks.harness import ROOT

ROUNDS = 5
IMPORTS = [sys.executable, "-c", "import fastapi, httpx, uvicorn, pytest"]
PYTEST = [sys.executable, "-m", "pytest", "--workspace=solutions"]


def seconds(command: list[str]) -> float:
    """One run of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return time.perf_counter() - started


@pytest.mark.parametrize(
    ("name", "arguments", "at_most"),
    [
        ("exercise 1", ["checks/test_ex1.py"], 6.0),
        ("1.4 alone", ["checks/test_ex1.py", "-k", "1.4"], 2.0),
        ("exercise 2", ["checks/test_ex2.py"], 8.0),
    ],
)
def test_time_to_verdict(name: str, arguments: list[str], at_most: float) -> None:
    """The whole process against the imports, interleaved; the medians are compared."""
    seconds(IMPORTS)  # the first ever reads from disk and writes byte code
    rounds = [(seconds(IMPORTS), seconds([*PYTEST, *arguments])) for _ in range(ROUNDS)]
    imports, verdict = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = sorted(v / i for i, v in rounds)
    print(
        f"\n{name}: median {verdict:.2f} s, {statistics.median(ratios):.2f} times the imports' {imports:.2f} s "
        f"(rounds {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )

    assert verdict <= at_most


def test_memory_of_the_pytest_process() -> None:
    """The most that any process of a run of the whole exercise held."""
    subprocess.run([*PYTEST, "checks/test_ex1.py"], cwd=ROOT, check=True, capture_output=True, timeout=120)
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\nat most {megabytes:.0f} MB")

    assert megabytes < 200
