"""Shows a finished run again: `python -m checks.harness.report .lab/last-run.json [--svg FILE | ...]`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from checks.harness.report.card import WIDTH, Card, console
from checks.harness.report.classroom50 import classroom50
from checks.harness.report.ctrf import ctrf
from checks.harness.report.gradescope import gradescope
from checks.harness.report.junit import junit
from checks.harness.report.results import Run, read


def main() -> None:
    """Read the arguments and write what they ask for."""
    parser = argparse.ArgumentParser(prog="python -m checks.harness.report", description=__doc__)
    parser.add_argument("results", type=Path, help="what --results or .lab/last-run.json holds")
    parser.add_argument("--svg", type=Path, help="write the card as a picture")
    parser.add_argument("--gradescope", type=Path, help="write what Gradescope's autograder reads")
    parser.add_argument("--ctrf", type=Path, help="write it in the Common Test Report Format")
    parser.add_argument(
        "--classroom50", type=Path, help="write what Classroom 50 reads; its runner's variables are set"
    )
    parser.add_argument("--junit", type=Path, help="write JUnit's XML")
    chosen = parser.parse_args()
    run = read(chosen.results)
    if chosen.gradescope:
        chosen.gradescope.write_text(json.dumps(gradescope(run), indent=1) + "\n", encoding="utf-8")
    elif chosen.ctrf:
        chosen.ctrf.write_text(json.dumps(ctrf(run), indent=1) + "\n", encoding="utf-8")
    elif chosen.classroom50:
        told = classroom50(run, os.environ)
        chosen.classroom50.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    elif chosen.junit:
        chosen.junit.write_text(junit(run), encoding="utf-8")
    elif chosen.svg:
        picture = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
        show(run, picture)
        picture.save_svg(str(chosen.svg), title=f"pytest checks/test_ex{run.exercises[0].number}.py")
    else:
        show(run, console(sys.stdout))


def show(run: Run, to: Console, *, all_details: bool = False) -> None:
    """Print the whole card; with `all_details` every open checkpoint in full, and not only the first."""
    Card(to, all_details=all_details).whole(run)


if __name__ == "__main__":
    main()
