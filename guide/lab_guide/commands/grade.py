"""`lab grade`: a class, graded with one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MINUTES = 20.0
"""What one submission may take with all its exercises; the solutions take about two."""


def grade(
    submissions: Annotated[Path, typer.Argument(help="a folder of folders and zips, or a CSV of git bundles")],
    out: Annotated[Path, typer.Option(help="where the grades go; a run that was cut short goes on there")],
    jobs: Annotated[int, typer.Option(min=1, help="how many at a time")] = 2,
    one: Annotated[bool, typer.Option("--one", help="SUBMISSIONS is the folder or zip of one learner")] = False,
    exercise: Annotated[list[int] | None, typer.Option(help="only this one; may be given again")] = None,
    checkpoint: Annotated[list[str] | None, typer.Option(help="only this one, as 1.4; may be given again")] = None,
    cell: Annotated[
        str, typer.Option(help="auto (bwrap, else docker), bwrap, docker, uid, or plain: no wall")
    ] = "auto",
    scheduler: Annotated[str, typer.Option(help="tcp://...: on the workers of dask there, and not here")] = "",
    minutes: Annotated[float, typer.Option(help="time limit for one submission")] = MINUTES,
    seed: Annotated[int | None, typer.Option(help="the same random inputs for all learners")] = None,
) -> None:
    """Grade every submission of a class, each in a cell of its own: grades.csv, summary.html, reports for each."""
    from rich.console import Console

    from checks.harness.classroom import command
    from checks.harness.classroom.grading import Plan
    from checks.harness.classroom.jobs import Busy
    from checks.harness.classroom.submissions import NoClass, find, only
    from checks.harness.classroom.workers import NoWorkers
    from checks.harness.grading.markers import EXERCISES, markers
    from checks.harness.walls.choice import NAMES, STRONGEST, choose
    from checks.harness.walls.wall import NoCell

    if unknown := set(exercise or ()) - set(EXERCISES):
        raise typer.BadParameter(f"there is no exercise {min(unknown)}", param_hint="--exercise")
    exercises = {marker.id: number for number in exercise or EXERCISES for marker in markers(number)}
    if strange := set(checkpoint or ()) - set(exercises):
        raise typer.BadParameter(f"there is no checkpoint {min(strange)}", param_hint="--checkpoint")
    ids = tuple(marker for marker in exercises if marker in (checkpoint or exercises))
    chosen = tuple(sorted({exercises[marker] for marker in ids}))
    if cell not in (STRONGEST, *NAMES):
        raise typer.BadParameter(f"one of {', '.join((STRONGEST, *NAMES))}", param_hint="--cell")
    try:
        found = only(submissions) if one else find(submissions.resolve())
        plan = Plan(chosen, choose(cell).name, minutes * 60, seed, ids if checkpoint else ())
        command.grade(found, out.resolve(), plan, jobs, Console(), scheduler)
    except (NoClass, NoCell, NoWorkers, Busy) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo("interrupted: what is graded is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
