"""`lab autograder-zip`: the lab as Gradescope and Classroom 50 take it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MINUTES = 9.0
"""Gradescope ends what takes longer than 10 minutes, unless it is told otherwise."""


def autograder_zip(
    to: Annotated[Path, typer.Argument(help="the zip to write")] = Path("autograder.zip"),
    exercise: Annotated[list[int] | None, typer.Option(help="only this one; may be given again")] = None,
    minutes: Annotated[float, typer.Option(help="time limit for one submission")] = MINUTES,
) -> None:
    """Write a zip for Gradescope (setup.sh, run_autograder), which Classroom 50 takes unpacked (autograder.py)."""
    from checks.harness.classroom.autograder import write_zip
    from checks.harness.grading.markers import EXERCISES

    if unknown := set(exercise or ()) - set(EXERCISES):
        raise typer.BadParameter(f"there is no exercise {min(unknown)}", param_hint="--exercise")
    chosen = [f"--exercise={number}" for number in sorted(set(exercise or ()))]
    count = write_zip(to, [*chosen, f"--minutes={minutes:g}"])
    typer.echo(f"{to} holds {count} files, without solutions and the lab's own tests.")
