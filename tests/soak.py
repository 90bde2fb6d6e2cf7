"""Judges what is right again and again on a busy machine, and counts the verdicts: one *failed* is a false one.

    uv run python tests/soak.py --exercise 1 2 3 4 5 --runs 3 --busy 0 16 32     beside so many busy processes
    uv run python tests/soak.py --exercise 4 --busy 16 --right                   right answers of other kinds, too
    uv run python tests/soak.py --exercise 1 2 3 --busy 32 --cell bwrap          as `lab grade` judges
    uv run python tests/soak.py --exercise 1 2 3 4 5 6 7 --together 7            all of them at once
    uv run python tests/soak.py --checkpoint 4.2 4.4 --copies 14                 so many copies of it at once
    uv run python tests/soak.py --busy 16 -- uv run pytest tests                 any command beside them

Prints a table in Markdown, a row as soon as it is known. A right answer passes on a busy machine, or is inconclusive;
the exit code is 1 if any failed. Half of the busy processes only compute; the others sleep, wake up and start programs,
as copies of the lab do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from checks.harness import ROOT
from checks.harness.machine import load_in_words
from tests.answers import HERE, Answer
from tests.exercises import EXERCISES
from tests.runs import NOWHERE

COMPUTING = """
import os
parent = os.getppid()
while os.getppid() == parent:  # whatever ends the soak ends these
    sum(range(100_000))
"""
LIVELY = """
import os, random, subprocess, sys, time
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(random.random() / 10)
    subprocess.run([sys.executable, "-c", "import json, asyncio; sum(range(2_000_000))"])
"""
GOOD = ("passed", "inconclusive", "locked")
HEAD = ("judged", "busy", "at once", "runs", *GOOD, "failed", "s, median", "s, most")


def main() -> int:
    """Read the arguments, run, and print a row for each subject and number of busy processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exercise", type=int, nargs="+", default=[], choices=EXERCISES)
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="N.M")
    parser.add_argument("--right", action="store_true", help="the right answers in tests/wrong_answers, too")
    parser.add_argument("--runs", type=int, default=1, help="how often each is judged, or all copies of it")
    parser.add_argument("--copies", type=int, default=1, help="how many run at once")
    parser.add_argument("--together", type=int, default=1, help="how many of what is named are judged at once")
    parser.add_argument("--cell", help="judge in such a cell, as `lab grade` does")
    parser.add_argument("--busy", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="a folder for the results of every run that was not all passed")
    parser.add_argument("command", nargs="*", help="run this, in the place of an exercise")
    chosen = parser.parse_args()
    if chosen.command:
        return beside(chosen.command, chosen.busy, chosen.runs)
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    named = [*map(str, chosen.exercise), *chosen.checkpoint]
    what = [(name, *subject) for name in named for subject in subjects(name, chosen.right)]
    failed = False
    for busy in chosen.busy:
        with neighbours(busy), ThreadPoolExecutor(chosen.together) as side_by_side:
            rows = [side_by_side.submit(row, chosen, busy, *subject) for subject in what]
            failed = any(done.result() for done in rows) or failed
    return int(failed)


def row(chosen: argparse.Namespace, busy: int, name: str, label: str, answer: Answer | None) -> bool:
    """Judge an answer as often as was chosen, and print what came of it: whether anything failed."""
    rounds: list[tuple[Counter[str], float]] = []
    with ThreadPoolExecutor(chosen.copies) as pool:
        for _ in range(chosen.runs):
            copies = [pool.submit(judge, name, answer, chosen.keep, chosen.cell) for _ in range(chosen.copies)]
            rounds += [copy.result() for copy in copies]
    verdicts: Counter[str] = sum((verdicts for verdicts, _ in rounds), Counter())
    seconds = [seconds for _, seconds in rounds]
    counts = [verdicts.pop(verdict, 0) for verdict in GOOD]
    cells = [label, busy, chosen.copies, len(rounds), *counts, verdicts.total()]
    print(f"| {' | '.join(map(str, cells))} | {statistics.median(seconds):.1f} | {max(seconds):.1f} |", flush=True)
    return bool(verdicts)


def subjects(name: str, right: bool) -> Iterator[tuple[str, Answer | None]]:
    """What is to be judged by an exercise, or a checkpoint: the solution, and right answers written differently."""
    yield name, None
    for answer in HERE.values():
        if right and str(answer.exercise) == name.partition(".")[0] and not answer.fails:
            yield f"{name}: {answer.name}", answer


def judge(name: str, answer: Answer | None, keep: Path | None, cell: str | None) -> tuple[Counter[str], float]:
    """One run, without a Docker engine: how often each verdict came, and the seconds of the whole process."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # other users get through, for the uid cell
        workspace = Path(folder, "workspace") if answer else ROOT / "solutions"
        if answer:
            answer.write(workspace)
        if cell:
            chosen = ["--checkpoint" if "." in name else "--exercise", name]
            command = [
                str(Path(sys.executable).with_name("lab")),
                "grade",
                str(workspace),
                "--one",
                "--cell",
                cell,
                "--out",
                f"{folder}/grade",
                *chosen,
            ]
        else:
            chosen = ["-k", name] if "." in name else []
            path = f"checks/test_ex{name.partition('.')[0]}.py"
            options = ["-p", "no:cacheprovider", f"--results={folder}/results.json", f"--workspace={workspace}"]
            command = [sys.executable, "-m", "pytest", *options, path, *chosen]
        # A session of its own: Linux shares out the cores among sessions.
        env = os.environ | {"DOCKER_HOST": NOWHERE}
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, start_new_session=True)
        found = [*Path(folder).glob("results.json"), *Path(folder, "grade").glob("*/results.json")]
        if not found:
            raise SystemExit(f"{shlex.join(command)} left no results:\n{ran.stdout}{ran.stderr}")
        results = found[0].read_text()
        verdicts = Counter(
            c["verdict"] for exercise in json.loads(results)["exercises"] for c in exercise["checkpoints"]
        )
        if keep and set(verdicts) != {"passed"}:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-{Path(folder).name}.json").write_text(results)
    return verdicts, time.monotonic() - started


def beside(command: list[str], numbers: list[int], runs: int) -> int:
    """Run a command beside so many busy processes: its exit code, and how long it took."""
    codes = []
    print("| command | busy | exit code | s | load |\n| --- | --- | --- | --- | --- |")
    for busy in [busy for busy in numbers for _ in range(runs)]:
        started = time.monotonic()
        with neighbours(busy):
            codes.append(subprocess.run(command, stdout=sys.stderr).returncode)
            seconds = time.monotonic() - started
            print(f"| {shlex.join(command)} | {busy} | {codes[-1]} | {seconds:.0f} | {load_in_words()} |", flush=True)
    return int(any(codes))


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    """So many busy processes, each in a session of its own: it is among sessions that Linux shares out the cores."""
    programs = [COMPUTING if number % 2 else LIVELY for number in range(number)]
    started = [subprocess.Popen([sys.executable, "-c", program], start_new_session=True) for program in programs]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
